"""What an implementation of the operators has to compute: one contract for every device."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..compiler.program import Program, forward_text, read


@dataclass(frozen=True)
class Dynamics:
    """A neuron's step, and what it takes at each call.

    Args:
        text: its program (see :mod:`~shortcut_snn.neurons.compiler.program`).
        numbers: c0, c1, ...
        scalars: p0, p1, ..., ``[P]``, or None.
        channels: q0, q1, ..., ``[Q, C]``, or None.
        learn_scalars: whether their gradients are wanted.
        learn_channels: whether theirs are.
        carry: whether the gradient travels from a step to the one before.
    """

    text: str
    numbers: tuple[float, ...]
    scalars: Tensor | None = None
    channels: Tensor | None = None
    learn_scalars: bool = False
    learn_channels: bool = False
    carry: bool = True

    @property
    def learn(self) -> tuple[str, ...]:
        """Names of the parameters whose gradient is wanted."""
        scalars = self.scalars.shape[0] if self.scalars is not None and self.learn_scalars else 0
        channels = self.channels.shape[0] if self.channels is not None and self.learn_channels else 0
        return (*(f"p{k}" for k in range(scalars)), *(f"q{k}" for k in range(channels)))

    @property
    def program(self) -> Program:
        """The step."""
        return read(self.text)

    @property
    def forward_text(self) -> str:
        """The program without what is for the way back alone, so that neurons that fire alike share a kernel."""
        return forward_text(self.text)


@dataclass(frozen=True)
class Affine:
    """A normalisation folded into ``x * scale + shift`` for each channel, float32, and the mean it came from."""

    scale: Tensor
    shift: Tensor
    mean: Tensor


@dataclass(frozen=True)
class Source:
    """What the neuron takes: x, normalised if there is an affine, plus a residual; and where its states start from.

    x is ``[T, N, C, ...]`` or a constant ``[1, N, C, ...]``; the residual comes as numbers or as bits laid out as x;
    initial is ``[states, N, C, ...]``.
    """

    x: Tensor
    residual: Tensor | None = None
    residual_bits: Tensor | None = None
    affine: Affine | None = None
    initial: Tensor | None = None


@dataclass(frozen=True)
class Gradients:
    """What a backward pass returns; ``sums`` ``[2, C]`` (float32) are of the gradient, and of it times x - mean."""

    current: Tensor | None
    x: Tensor
    sums: Tensor | None
    scalars: Tensor | None
    channels: Tensor | None
    initial: Tensor | None


class Implementation(Protocol):
    """The interface of the modules ``cpu.implementation`` and ``gpu.implementation``."""

    def batch_statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance ``[C]`` (float32) of ``[T, N, C, ...]`` for each channel."""

    def forward(
        self,
        source: Source,
        time_steps: int,
        dynamics: Dynamics,
        want_final: bool,
        want_bits: bool,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return spikes ``[time_steps, N, ...]``, the final states ``[states, N, ...]`` and the spikes as bits.

        The last two are None unless wanted.
        """

    def backward(
        self,
        grad_spikes: Tensor,
        grad_final: Tensor | None,
        source: Source,
        dynamics: Dynamics,
        grad_residual: bool,
    ) -> Gradients:
        """Return the gradients of the normalised current, before they go through the normalisation.

        ``current`` is ``[T, N, ...]``; ``x`` is the same tensor, or the sum over time ``[1, N, ...]`` where x is
        static.
        """

    def input_grad(self, grad: Tensor, x: Tensor, a: Tensor, b: Tensor, c: Tensor, in_place: bool) -> Tensor:
        """Return ``a * grad + b * x + c`` with ``[C]`` factors, in the memory of ``grad`` if asked."""

    def pack(self, spikes: Tensor) -> Tensor:
        """Return spikes ``[T, ...]``, laid out in one of the two ways, as bits (see :mod:`.bits`)."""

    def unpack(self, bits: Tensor, out: Tensor) -> None:
        """Write to ``out`` ``[T, ...]``, in the order of its memory, the spikes that bits stand for."""
