"""What an implementation of the operators has to compute: one contract for every device."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Dynamics:
    """Parameters of the neuron; tau is 0-dimensional, and the surrogate is needed for the way back only."""

    tau: Tensor
    threshold: float
    soft: bool
    detach_reset: bool
    surrogate: int = 0
    first: float = 0.0
    second: float = 0.0


@dataclass(frozen=True)
class Affine:
    """A normalisation folded into ``x * scale + shift`` for each channel, float32, and the mean it came from."""

    scale: Tensor
    shift: Tensor
    mean: Tensor


@dataclass(frozen=True)
class Source:
    """What the membrane integrates: x, normalised if there is an affine, plus a residual; and where it starts from.

    x is ``[T, N, C, ...]`` or a constant ``[1, N, C, ...]``; the residual comes as numbers or as bits laid out as x.
    """

    x: Tensor
    residual: Tensor | None = None
    residual_bits: Tensor | None = None
    affine: Affine | None = None
    initial: Tensor | None = None


@dataclass(frozen=True)
class Gradients:
    """What a backward pass returns; ``sums`` ``[2, C]`` are those of the gradient, and of it times x - mean."""

    current: Tensor | None
    x: Tensor
    sums: Tensor | None
    tau: Tensor
    initial: Tensor | None


class Implementation(Protocol):
    """The modules :mod:`.cpu` and :mod:`.gpu`."""

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
        """Return spikes ``[time_steps, N, ...]``, the final membrane potential and the spikes as bits.

        The last two are None unless wanted.
        """

    def backward(
        self,
        grad_spikes: Tensor,
        grad_final: Tensor | None,
        source: Source,
        dynamics: Dynamics,
        learn_tau: bool,
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
