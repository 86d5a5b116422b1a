"""A folded network that runs one time step per call."""

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..introspection.neurons import spiking_layers
from ..method import LinearHead
from ..method.heads import pool
from ..nets import SpikingNetwork
from ..neurons.current_neuron import Membrane

EXIT_HEADS = "exit_heads"
M = TypeVar("M", bound=nn.Module)


def keep_branches(network: nn.Module, branches: Mapping[str, nn.Module]) -> None:
    """Add the heads of branches to a network (``exit_heads``), whose single steps then return their logits too."""
    for tap, head in branches.items():
        # The mean of another head's logits would not be the logits of the mean.
        if not isinstance(head, LinearHead):
            raise ValueError(f"the branch at {tap} has a {type(head).__name__}: exits of a step have linear heads")
    network.add_module(EXIT_HEADS, nn.ModuleDict({tap.replace(".", ":"): head for tap, head in branches.items()}))


def check_has_single_steps(network: nn.Module) -> None:
    """Check that a network can run one time step per call, and that its output is the mean of these logits."""
    if not isinstance(network, SpikingNetwork):
        raise ValueError(f"{type(network).__name__} has no single steps; derive it from SpikingNetwork to run them")
    if network.readout == "sequence":
        raise ValueError("the network returns the logits of every time step, not their mean: export to onnx")


def copy_sharing_weights(network: M) -> M:
    """Return a copy with the same parameters and buffers, for a run that sets the membrane potentials of its layers."""
    tensors = (*network.parameters(), *network.buffers())
    return copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})


class SingleStep(nn.Module):
    """A folded network that takes a frame per call; the mean logits of T calls equal its output for the sequence."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        check_has_single_steps(network)
        self.network: SpikingNetwork = network  # type: ignore[assignment]
        heads = getattr(network, EXIT_HEADS, {})
        self.taps = [name.replace(":", ".") for name in heads]  # places of the branches whose logits a step returns
        self._exit_logits: dict[str, Tensor] = {}
        for tap, head in zip(self.taps, heads.values(), strict=True):
            network.get_submodule(tap).register_forward_hook(partial(self._at_tap, tap, head))
        layers = spiking_layers(network)
        self.names = list(layers)  # paths of the layers of neurons, in the order of their potentials
        self._layers = list(layers.values())

    def forward(self, frame: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        """Return logits ``[N, num_classes]``, those of the kept branches, and all membranes, which are 0 at first."""
        membranes = [Membrane(potential) for potential in before] or [Membrane() for _ in self._layers]
        logits = self.step(frame, membranes)
        after = (membrane.after for membrane in membranes if membrane.after is not None)
        return (logits, *(self._exit_logits.pop(tap) for tap in self.taps), *after)

    def _at_tap(self, tap: str, head: nn.Module, module: nn.Module, args: Any, output: Tensor) -> None:
        self._exit_logits[tap] = head(pool(output, 0))

    def step(self, frame: Tensor, membranes: Sequence[Membrane], steps: int = 1) -> Tensor:
        """Return the mean logits ``[N, num_classes]`` of some steps, and write the membrane potentials after them.

        ``frame`` is one normalised frame or image for all steps, ``[N, C, H, W]``, or has an axis of steps.
        """
        network, before = self.network, self.network.time_steps
        for layer, membrane in zip(self._layers, membranes, strict=True):
            layer.membrane = membrane  # type: ignore[assignment]
        network.time_steps = steps
        try:
            features = network.features(frame.unsqueeze(0) if frame.dim() == 4 else frame)
            logits: Tensor = network.classifier(features.squeeze(0) if steps == 1 else features.mean(0))
        finally:
            network.time_steps = before
            for layer in self._layers:
                layer.membrane = None  # type: ignore[assignment]
        return logits

    @torch.no_grad()
    def initial_state(self, frame: Tensor) -> tuple[Tensor, ...]:
        """Return membrane potentials of 0 for a batch of the shape of ``frame``."""
        return tuple(torch.zeros_like(membrane) for membrane in self(frame)[1 + len(self.taps) :])
