"""Networks run by torch."""

import copy
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..inspection import hooked, preserving_state
from ..nets import channels_last
from ..neurons import CurrentNeuron, Neuron, NormNeuron
from .describe import Description
from .prepare import Prepare
from .runtime import State
from .step import StepNetwork, neurons_of

Precision = Literal["float32", "bfloat16"]


class TorchRuntime:
    """A folded network on the CPU or a GPU, where the kernels of the neurons and channels-last convolutions are fast.

    Args:
        network: from :func:`~shortcut_snn.deploy.folding.fold`.
        about: what it is.
        precision: of convolutions and what goes between layers; ``"bfloat16"`` is faster where the processor has it,
            rounds weights to 8 bits, and keeps the membrane potential in float32 within a sequence.
    """

    def __init__(self, network: nn.Module, about: Description, precision: Precision = "float32") -> None:
        self.dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.network = for_inference(network, self.dtype)
        self.prepare = Prepare(about).to(next(network.parameters()).device)

    @cached_property
    def step_network(self) -> StepNetwork:
        """The network one time step at a time.

        It has layers of its own, which are told where membrane potentials lie, so that other threads may give whole
        sequences meanwhile; the weights are the same.
        """
        tensors = (*self.network.parameters(), *self.network.buffers())
        return StepNetwork(copy.deepcopy(self.network, {id(tensor): tensor for tensor in tensors}))

    def _prepared(self, images: Tensor) -> Tensor:
        x: Tensor = self.prepare(images.to(self.prepare.mean.device)).to(self.dtype)
        return _channels_last(x)

    @torch.inference_mode()
    def whole(self, images: Tensor) -> Tensor:
        """Return logits; see :class:`~.runtime.Runtime`."""
        logits: Tensor = self.network(self._prepared(images))
        return logits

    @torch.inference_mode()
    def step(self, frame: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Return a step's logits and the membrane potentials; see :class:`~.runtime.Runtime`."""
        logits, *after = self.step_network(self._prepared(frame), *(state or ()))
        return logits, after

    def spikes(self, images: Tensor) -> dict[str, Tensor]:
        """Return every layer's spikes; see :class:`~.runtime.Runtime`."""
        return spikes_of(dict(neurons_of(self.network)), lambda: self.whole(images))


def for_inference(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy of a folded network, laid out channels-last, its layers but for the last in a dtype."""
    network = copy.deepcopy(network)
    channels_last(network)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in layers[:-1]:
        layer.to(dtype)
    layers[-1].register_forward_pre_hook(_to_float)
    return network.eval()


def _to_float(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    return (args[0].float(),)


def _channels_last(x: Tensor) -> Tensor:
    """Lay out ``[N, C, H, W]`` or ``[T, N, C, H, W]`` with the channels last in memory."""
    return x.movedim(-3, -1).contiguous().movedim(-1, -3)


def spikes_of(layers: Mapping[str, nn.Module], run: Callable[[], Any]) -> dict[str, Tensor]:
    """Run something and return the spikes that came out of some modules, by their names; calls follow in time."""
    seen: dict[str, list[Tensor]] = {name: [] for name in layers}

    def note(name: str, module: nn.Module, args: Any, output: Tensor | tuple[Tensor, ...]) -> None:
        # With the spikes a module of a graph may give its membrane potential, which has no time axis.
        spikes = output if isinstance(output, Tensor) else max(output, key=lambda each: each.dim())
        seen[name].append(spikes.detach())

    with hooked(layers, note):
        run()
    return {name: torch.cat(spikes) for name, spikes in seen.items() if spikes}


class TrainedNetwork:
    """The network as it was trained, norms and all: what exports are compared with.

    Args:
        network: in any mode; it is left as it was.
        about: what it is.
    """

    def __init__(self, network: nn.Module, about: Description) -> None:
        self.network, self.prepare = network, Prepare(about)

    @torch.no_grad()
    def whole(self, images: Tensor) -> Tensor:
        """Return logits."""
        with preserving_state(self.network, training=False):
            logits: Tensor = self.network(self.prepare(images))
        return logits

    def spikes(self, images: Tensor) -> dict[str, Tensor]:
        """Return every layer's spikes."""
        layers: dict[str, nn.Module] = {}
        for path, module in self.network.named_modules():
            owner = path.rpartition(".")[0]
            if isinstance(module, NormNeuron | CurrentNeuron) or (isinstance(module, Neuron) and owner not in layers):
                layers[path] = module
        return spikes_of(layers, lambda: self.whole(images))
