"""Neurons as modules: parameters held, no state kept."""

import math
from typing import Annotated, Any

import torch
from annotated_types import Gt, Interval
from torch import Tensor, nn

from .. import components
from . import functional, sltt
from .functional import Reset
from .surrogate import Rectangle, Surrogate

Threshold = Annotated[float, Gt(0)]
_RECTANGLE = Rectangle()


class Neuron(nn.Module):
    """Base of the neurons: maps a current ``[T, N, ...]`` to spikes of the same shape.

    A subclass sets ``decay``, the factor on the membrane potential in a step, or has a ``forward`` of its own; with a
    ``stream`` of its own it can also be run step by step.

    Args:
        threshold: a neuron fires where its membrane potential is greater than this.
        surrogate: ds/du in the backward pass; ``Rectangle(1)`` by default.
        reset: ``"hard"`` to 0, or ``"soft"``: the threshold is subtracted.
        detach_reset: whether the gradient ignores that the reset depends on the spike.
        detach_membrane: whether no gradient travels through time (see :mod:`.sltt`).

    Raises:
        TypeError: a threshold that is no number, or a surrogate that cannot be called.
        ValueError: a parameter out of range.

    Example:
        >>> class Memoryless(Neuron):
        ...     def forward(self, current):
        ...         return (current > self.threshold).float()
        >>> Memoryless()(torch.tensor([[0.5], [1.5]])).flatten()
        tensor([0., 1.])
    """

    decay: float | Tensor

    def __init__(
        self,
        threshold: Threshold = 1.0,
        surrogate: Surrogate | None = None,
        reset: Reset = "hard",
        detach_reset: bool = False,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__()
        functional.check_parameters(1.0, threshold, reset)
        if not (surrogate is None or callable(surrogate)):
            raise TypeError(f"a surrogate is called with the distance from the threshold, got {surrogate!r}")
        self.threshold = threshold
        self.surrogate: Surrogate = surrogate or _RECTANGLE
        self.reset: Reset = reset
        self.detach_reset = detach_reset
        self.detach_membrane = detach_membrane

    def forward(self, current: Tensor) -> Tensor:
        """Return the spikes of a sequence that starts from membrane potential 0."""
        return self.stream(current)[0]

    def stream(self, current: Tensor, initial: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return spikes and the final membrane potential, to be passed back in with the next frames."""
        options: dict[str, Any] = {"threshold": self.threshold, "surrogate": self.surrogate, "reset": self.reset}
        if self.detach_membrane:
            return sltt.lif(current, self.decay, initial=initial, **options)
        return functional.lif(current, self.decay, initial=initial, detach_reset=self.detach_reset, **options)

    def extra_repr(self) -> str:
        """Show the parameters."""
        decay = getattr(self, "decay", None)
        decay = float(decay.detach()) if isinstance(decay, Tensor) else decay
        parts = [] if decay is None else [f"decay={decay:g}"]
        parts += [f"threshold={self.threshold:g}, surrogate={self.surrogate}, reset={self.reset}"]
        flags = {"detach_reset": self.detach_reset, "detach_membrane": self.detach_membrane}
        return ", ".join(parts + [name for name, on in flags.items() if on])


@components.neuron("lif")
class LIF(Neuron):
    """Leaky integrate-and-fire, with the other arguments of :class:`Neuron`.

    Args:
        decay: factor on the membrane potential in a step, from 0 to 1 (the paper's tau).

    Example:
        >>> import torch
        >>> LIF(decay=0.5)(torch.full((4, 1, 1), 0.75)).flatten()
        tensor([0., 1., 0., 1.])
    """

    def __init__(
        self,
        decay: Annotated[float, Interval(ge=0.0, le=1.0)] = 0.5,
        threshold: Threshold = 1.0,
        surrogate: Surrogate | None = _RECTANGLE,
        reset: Reset = "hard",
        detach_reset: bool = False,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__(threshold, surrogate, reset, detach_reset, detach_membrane)
        functional.check_parameters(decay, threshold, reset)
        self.decay = decay


@components.neuron("if")
class IF(LIF):
    """Integrate-and-fire: a LIF neuron that does not leak, so its decay is 1.

    Example:
        >>> import torch
        >>> IF()(torch.full((4, 1, 1), 0.75)).flatten()
        tensor([0., 1., 0., 1.])
    """

    def __init__(
        self,
        threshold: Threshold = 1.0,
        surrogate: Surrogate | None = _RECTANGLE,
        reset: Reset = "hard",
        detach_reset: bool = False,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__(1.0, threshold, surrogate, reset, detach_reset, detach_membrane)


@components.neuron("plif")
class PLIF(Neuron):
    """LIF whose decay is learned, one for the layer: ``decay = sigmoid(w)`` (Fang et al., ICCV 2021).

    Args:
        decay: where the learning of the factor on the membrane potential starts, between 0 and 1.

    Example:
        >>> PLIF(decay=0.5).w
        Parameter containing:
        tensor(0., requires_grad=True)
    """

    def __init__(
        self,
        decay: Annotated[float, Interval(gt=0.0, lt=1.0)] = 0.5,
        threshold: Threshold = 1.0,
        surrogate: Surrogate | None = _RECTANGLE,
        reset: Reset = "hard",
        detach_reset: bool = False,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__(threshold, surrogate, reset, detach_reset, detach_membrane)
        functional.check_parameters(decay, threshold, reset)
        if not 0.0 < decay < 1.0:
            raise ValueError(f"PLIF starts from a decay between 0 and 1, both excluded, got {decay}")
        self.w = nn.Parameter(torch.tensor(math.log(decay / (1.0 - decay))))

    @property
    def decay(self) -> Tensor:  # type: ignore[override]
        """Return sigmoid(w)."""
        return torch.sigmoid(self.w)


def is_plain(neuron: nn.Module) -> bool:
    """Say whether a neuron is the dynamics of :mod:`.functional`, and nothing stands for its methods."""
    kind: Any = type(neuron)
    replaced = {"forward", "stream"} & set(vars(neuron))
    return (
        isinstance(neuron, Neuron) and kind.forward is Neuron.forward and kind.stream is Neuron.stream and not replaced
    )
