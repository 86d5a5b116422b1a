"""The neuron of a folded network: its normalisation is part of the convolution or linear layer before it."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .backend import is_exported
from .modules import Neuron, is_plain, state_shape
from .sequence import run_as_written, run_in_kernels, runs_in_kernels


@dataclass
class Membrane:
    """The membrane potential ``[N, ...]`` of a layer that runs a sequence piece by piece; None for 0.

    A neuron with several states has all of them, ``[N, states, ...]``.
    """

    before: Tensor | None = None
    after: Tensor | None = None


class CurrentNeuron(nn.Module):
    """``neuron(x + residual)``: a :class:`NormNeuron` after folding, for inference."""

    def __init__(self, neuron: nn.Module) -> None:
        super().__init__()
        self.neuron: Any = neuron
        self.membrane: Membrane | None = None
        """Where the membrane potential is read from and written to; None to start from 0 and discard it."""

    def forward(self, x: Tensor, residual: Tensor | None = None, time_steps: int | None = None) -> Tensor:
        """Return spikes ``[T, N, ...]`` of a current ``[T, N, ...]``, or of a constant one, ``[1, N, ...]``."""
        neuron, membrane = self.neuron, self.membrane
        steps = time_steps or x.shape[0]
        if membrane is not None and membrane.after is not None:
            raise ValueError(
                f"this {type(neuron).__name__} layer is called twice in a time step but has one membrane potential: "
                f"use a separate layer for each call"
            )
        initial = None if membrane is None else membrane.before
        final: Tensor | None
        if self._fuses(x, residual, steps, initial):
            spikes, final = run_in_kernels(
                neuron, x, steps, initial=initial, residual=residual, want_final=membrane is not None
            )
        elif is_exported() and is_plain(neuron) and x.shape[0] == 1 and residual is None:
            spikes, final = run_as_written(neuron, x, initial, steps)
        else:
            current = x if x.shape[0] == steps else x.expand(steps, *x.shape[1:])
            spikes, final = self._streamed(current if residual is None else current + residual, initial)
        if membrane is not None:
            membrane.after = final
        return spikes

    def _fuses(self, x: Tensor, residual: Tensor | None, steps: int, initial: Tensor | None) -> bool:
        """Return whether the kernels can add the residual and run the neuron; for bad inputs the neuron raises."""
        if not is_plain(self.neuron):
            return False
        states = len(self.neuron.states)
        if initial is not None and (initial.device != x.device or initial.shape != state_shape(x, states)):
            return False
        return x.shape[0] in (1, steps) and runs_in_kernels(self.neuron, x, steps, residual)

    def _streamed(self, current: Tensor, initial: Tensor | None) -> tuple[Tensor, Tensor | None]:
        neuron = self.neuron
        if self.membrane is None and not is_plain(neuron):
            return neuron(current), None
        # A neuron that overrides forward alone inherits a stream that does something else.
        if not is_plain(neuron) and getattr(type(neuron), "stream", Neuron.stream) is Neuron.stream:
            raise ValueError(
                f"{type(neuron).__name__} cannot start from a membrane potential, which single-step mode requires: "
                f"define stream(current, initial) -> (spikes, membrane)"
            )
        # Not by calling the module: in an exported graph the spikes belong to this layer.
        spikes, final = neuron.stream(current, initial)
        return spikes, final
