"""The interface between the custom operators and the kernels of a device."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..compiler.backward import BackwardStep, derive_backward
from ..compiler.program import Program, forward_text, parse
from .layout import empty_sequence, is_channels_last

Buffers = dict[str, Tensor | None]


class Flags(NamedTuple):
    """The switches of a pass, which the operators take as ``list[bool]``, since a schema has no structures.

    ``from_batch``: mean and variance come from x, so gradients flow through them. ``through_time``: gradients travel
    from a step to the one before.
    """

    from_batch: bool
    through_time: bool
    want_final: bool
    want_bits: bool
    want_support: bool


@dataclass(frozen=True)
class Dynamics:
    """A neuron's time step, as a program, and the values of c0, ..., p0, ... ``[P]`` and q0, ... ``[Q, C]``.

    ``learn_scalars`` and ``learn_channels`` state which gradients are needed, ``through_time`` whether gradients travel
    from a step to the one before.
    """

    text: str
    constants: tuple[float, ...]
    scalars: Tensor | None = None
    channels: Tensor | None = None
    learn_scalars: bool = False
    learn_channels: bool = False
    through_time: bool = True

    @property
    def counts(self) -> tuple[int, int]:
        """The numbers of scalars and of parameters per channel."""
        return 0 if self.scalars is None else len(self.scalars), 0 if self.channels is None else len(self.channels)

    @property
    def learned_counts(self) -> tuple[int, int]:
        """The numbers of those whose gradients are needed: all or none of a kind."""
        scalars, channels = self.counts
        return scalars if self.learn_scalars else 0, channels if self.learn_channels else 0

    @property
    def learned(self) -> tuple[str, ...]:
        """Names of all parameters whose gradients are needed."""
        scalars, channels = self.learned_counts
        return (*(f"p{k}" for k in range(scalars)), *(f"q{k}" for k in range(channels)))

    @property
    def program(self) -> Program:
        """The step as a program."""
        return parse(self.text)

    @property
    def forward_text(self) -> str:
        """The program without its gradient, so that neurons with other surrogates share a forward kernel."""
        return forward_text(self.text)

    @property
    def backward_step(self) -> BackwardStep:
        """The derived backward pass."""
        return derive_backward(self.text, self.learned, self.through_time)


@dataclass(frozen=True)
class Affine:
    """A batch normalisation as ``x * scale + shift`` per channel, and its mean; ``[C]`` each, float32."""

    scale: Tensor
    shift: Tensor
    mean: Tensor


@dataclass(frozen=True)
class Source:
    """The inputs of a neuron: x ``[T, N, C, ...]``, which an affine may normalise, a residual, and the initial states.

    x is ``[1, N, C, ...]`` for a constant current. Bits of the residual are in the memory order of x.
    """

    x: Tensor
    residual: Tensor | None = None
    residual_bits: Tensor | None = None
    affine: Affine | None = None
    initial: Tensor | None = None


@dataclass(frozen=True)
class Gradients:
    """The results of a backward pass; None if not needed.

    Args:
        current: of the normalised current at each step, ``[T, N, C, ...]``; it is the residual's gradient too.
        x: ``current`` itself, or for a constant current its sum over time, ``[1, N, C, ...]``.
        sums: sums over elements of the gradient, and of the gradient times x - mean, ``[2, C]``, float32.
        scalars: ``[P]``.
        channels: ``[Q, C]``.
        initial: ``[states, N, C, ...]``.
    """

    current: Tensor | None
    x: Tensor
    sums: Tensor | None
    scalars: Tensor | None
    channels: Tensor | None
    initial: Tensor | None

    @staticmethod
    def buffers(x: Tensor, source: Source, time_steps: int, states: int, wants_residual: bool) -> Buffers:
        """Return uninitialised ``grad_current``, ``grad_x`` and ``grad_initial``; None where not needed."""
        static = x.shape[0] != time_steps
        steps = {
            "grad_current": time_steps if wants_residual or not static else 0,
            "grad_x": 1 if static else 0,
            "grad_initial": 0 if source.initial is None else states,
        }
        channels_last = is_channels_last(x)
        dtypes = {"grad_initial": torch.float32}
        return {
            name: empty_sequence(x, count, channels_last, dtypes.get(name)) if count else None
            for name, count in steps.items()
        }

    @classmethod
    def of(cls, buffers: Buffers, sums: Tensor | None, scalars: Tensor | None, normalised: bool) -> "Gradients":
        """Return the results from the buffers and the sums ``[2 + learned per channel, C]`` and ``[P]``."""
        grad_x = buffers["grad_current"] if buffers["grad_x"] is None else buffers["grad_x"]
        assert grad_x is not None
        return cls(
            current=buffers["grad_current"],
            x=grad_x,
            sums=sums[:2].float() if sums is not None and normalised else None,
            scalars=scalars,
            channels=sums[2:] if sums is not None and len(sums) > 2 else None,
            initial=buffers["grad_initial"],
        )


class Implementation(Protocol):
    """The functions of the modules ``cpu.implementation`` and ``gpu.implementation``."""

    def batch_statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance ``[C]`` (float32) of ``[T, N, C, ...]`` over all other axes."""

    def forward(
        self, source: Source, time_steps: int, dynamics: Dynamics, want_final: bool, want_bits: bool,
        want_support: bool = False,
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
        """Return spikes ``[time_steps, N, ...]``, final states ``[states, N, ...]``, and spikes and support as bits.

        The last three are None unless wanted.
        """

    def backward(
        self, grad_spikes: Tensor, grad_final: Tensor | None, source: Source, dynamics: Dynamics, grad_residual: bool
    ) -> Gradients:
        """Return the gradients up to the normalised current, not yet through the normalisation."""

    def input_grad(self, grad: Tensor, x: Tensor, a: Tensor, b: Tensor, c: Tensor, in_place: bool) -> Tensor:
        """Return ``a * grad + b * x + c`` with factors ``[C]``, in the memory of ``grad`` if ``in_place``."""

    def pack(self, spikes: Tensor) -> Tensor:
        """Return spikes ``[T, ...]``, contiguous or channels-last, as bits; :mod:`..packing` documents the format."""

    def unpack(self, bits: Tensor, out: Tensor) -> None:
        """Write the spikes that bits stand for to ``out`` ``[T, ...]``, in the order of its memory."""
