"""A neuron at inference: the normalisation before it is part of the layer that makes its current."""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .backend import is_exported
from .modules import Neuron, is_plain, state_shape
from .sequence import in_kernels, runs_in_kernels, stream


@dataclass
class Membrane:
    """What a layer that is run piece by piece starts from, and where it has come to.

    Args:
        before: membrane potential ``[N, ...]`` before the first step, or None for 0; of a neuron of several states
            all of them, ``[N, states, ...]``.
        after: the one after the last step, once the layer has run.

    Example:
        >>> from shortcut_snn.neurons import LIF
        >>> layer = CurrentNeuron(LIF())
        >>> layer.membrane = Membrane()
        >>> spikes = layer(torch.full((1, 1, 1), 0.75))
        >>> layer.membrane.after.item()
        0.75
    """

    before: Tensor | None = None
    after: Tensor | None = None


class CurrentNeuron(nn.Module):
    """``neuron(x + residual)``: what a :class:`NormNeuron` is once its normalisation is folded away.

    A neuron whose step can be traced may run in one pass with the addition; any other runs as it is written.

    Args:
        neuron: what fires.

    Example:
        >>> from shortcut_snn.neurons import LIF
        >>> current, residual = torch.full((1, 1, 1), 0.5), torch.full((4, 1, 1), 0.25)
        >>> CurrentNeuron(LIF())(current, residual, time_steps=4).flatten()
        tensor([0., 1., 0., 1.])
    """

    def __init__(self, neuron: nn.Module) -> None:
        super().__init__()
        self.neuron: Any = neuron
        self.membrane: Membrane | None = None
        """Where the membrane potential comes from and goes to; None to start from 0 and to drop it."""

    def forward(self, x: Tensor, residual: Tensor | None = None, time_steps: int | None = None) -> Tensor:
        """Return spikes ``[T, N, ...]``.

        Args:
            x: current ``[T, N, ...]``, or ``[1, N, ...]`` with ``time_steps``: a constant current.
            residual: added to the current, ``[T, N, ...]``.
            time_steps: T of a constant current.

        Raises:
            ValueError: there is a membrane potential to go on from, and the neuron cannot, or is called a second time.
        """
        dtype, steps = x.dtype, time_steps or x.shape[0]
        if self.membrane is not None and self.membrane.after is not None:
            raise ValueError(
                f"a {type(self.neuron).__name__} is called twice in a time step, and has one membrane potential to go "
                "on from: give each place a layer of neurons of its own"
            )
        initial = None if self.membrane is None else self.membrane.before
        if self.membrane is not None and dtype in (torch.bfloat16, torch.float16):
            # Between calls a potential keeps the bits that it has within one.
            x, residual = x.float(), None if residual is None else residual.float()
        fuses = self._fuses(x, residual, steps, initial)
        spikes, final = (self._fused if fuses else self._plain)(x, residual, steps, initial)
        if self.membrane is not None:
            self.membrane.after = final
        return spikes.to(dtype)

    def _fuses(self, x: Tensor, residual: Tensor | None, steps: int, initial: Tensor | None) -> bool:
        """Say whether the kernels apply, which add the residual and run the neuron in one pass; errors are lif's."""
        if residual is not None and (
            (residual.dtype, residual.device) != (x.dtype, x.device) or residual.shape != (steps, *x.shape[1:])
        ):
            return False
        if not is_plain(self.neuron):
            return False
        states = len(self.neuron.states)
        if initial is not None and (initial.device != x.device or initial.shape != state_shape(x, states)):
            return False
        return x.shape[0] in (1, steps) and not x.requires_grad and runs_in_kernels(self.neuron, x)

    def _fused(
        self, x: Tensor, residual: Tensor | None, time_steps: int, initial: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        want = self.membrane is not None
        spikes, final, _ = in_kernels(self.neuron, x, time_steps, initial=initial, residual=residual, want_final=want)
        return spikes, final

    def _plain(
        self, x: Tensor, residual: Tensor | None, time_steps: int, initial: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        neuron = self.neuron
        if is_exported() and is_plain(neuron) and x.shape[0] == 1 and residual is None:
            return stream(neuron, x, initial, time_steps)
        current = x if x.shape[0] == time_steps else x.expand(time_steps, *x.shape[1:])
        current = current if residual is None else current + residual
        if is_plain(neuron):
            # Not through the module: in an exported graph the spikes are this layer's.
            spikes, final = neuron.stream(current, initial)
            return spikes, final
        if self.membrane is None:
            return neuron(current), None
        if not _streams(neuron):
            name = type(neuron).__name__
            raise ValueError(
                f"{name} cannot go on from a membrane potential, as single time steps need it to: "
                f"write stream(current, initial) -> (spikes, membrane) for it"
            )
        spikes, final = neuron.stream(current, initial)
        return spikes, final


def _streams(neuron: nn.Module) -> bool:
    """Say whether a neuron has a ``stream`` of its own that takes a membrane potential."""
    stream = getattr(neuron, "stream", None)
    written = getattr(stream, "__func__", stream)
    return stream is not None and written is not Neuron.stream and "initial" in inspect.signature(stream).parameters
