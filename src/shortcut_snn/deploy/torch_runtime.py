"""Folded networks run by torch, on the CPU or a GPU."""

import copy
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from ..nets import channels_last
from .prepare import Prepare
from .runtime import State
from .single_step import SingleStep
from .spec import NetworkSpec

Precision = Literal["float32", "bfloat16"]


class TorchRuntime:
    """A folded network laid out channels-last, whose neurons run in the kernels of this package.

    Args:
        network: from :func:`~shortcut_snn.deploy.fold`.
        spec: the network's specification.
        precision: dtype of the layers and of what passes between them. ``"bfloat16"`` rounds weights to 8 bits and is
            faster on processors that support it; the membrane potential stays in float32 within a sequence.
    """

    def __init__(self, network: nn.Module, spec: NetworkSpec, precision: Precision = "float32") -> None:
        self.dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.network = for_inference(network, self.dtype)
        self.prepare = Prepare(spec).to(next(network.parameters()).device)

    @cached_property
    def single_step(self) -> SingleStep:
        """The network one time step at a time.

        It is a copy that shares the weights: a step sets the membrane potentials of its layers, and another thread may
        run whole sequences at the same time.
        """
        tensors = (*self.network.parameters(), *self.network.buffers())
        return SingleStep(copy.deepcopy(self.network, {id(tensor): tensor for tensor in tensors}))

    def model_inputs(self, images: Tensor) -> Tensor:
        """Return images or frames as the network takes them: normalised and channels-last."""
        x: Tensor = self.prepare(images.to(self.prepare.mean.device)).to(self.dtype)
        return x.movedim(-3, -1).contiguous().movedim(-1, -3)

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """Return logits; see :class:`~.runtime.Runtime`."""
        logits: Tensor = self.network(self.model_inputs(images))
        return logits

    @torch.inference_mode()
    def step(self, frame: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Return the logits and membrane potentials of one step; see :class:`~.runtime.Runtime`."""
        logits, *after = self.single_step(self.model_inputs(frame), *(state or ()))
        return logits, after


def for_inference(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy of a folded network, channels-last, with all layers but the last in a dtype."""
    network = copy.deepcopy(network)
    channels_last(network)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in layers[:-1]:
        layer.to(dtype)
    layers[-1].register_forward_pre_hook(lambda module, args: args[0].float())
    return network.eval()
