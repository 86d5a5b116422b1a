"""Neurons as modules: parameters held, no state kept."""

import itertools
import math
import os
import uuid
from numbers import Real
from typing import Annotated, Any, ClassVar, Literal, get_args

import torch
from annotated_types import Gt, Interval
from torch import Tensor, nn

from .. import components
from . import sequence
from .compiler.lowering import straight_through
from .surrogate import Rectangle, Surrogate

Reset = Literal["hard", "soft"]
Threshold = Annotated[float, Gt(0)]
RECTANGLE = Rectangle()


class Neuron(nn.Module):
    """Base of the neurons: maps a current ``[T, N, ...]`` to spikes of the same shape.

    A neuron is its :meth:`step`, one time step in plain PyTorch, written once. It is traced, and from it come the fused
    kernels on CPU and GPU with normalisation in front and bits behind, their backward pass, single steps, folding and
    export. :mod:`.compiler.lowering` lists the operations it may use; other steps run in plain PyTorch, with a warning.
    This class is the LIF neuron: a subclass that sets ``decay``, the factor on the membrane potential in a step, needs
    no more. Another neuron has a ``step`` of its own, and names its ``states``, all of which start at 0. A subclass may
    instead have a ``forward`` over a whole sequence; it is run as it is.

    Args:
        threshold: a neuron fires where its membrane potential is greater than this.
        surrogate: ds/du in the backward pass; ``Rectangle(1)`` by default.
        reset: ``"hard"`` to 0, or ``"soft"``: the threshold is subtracted.
        detach_reset: whether the gradient ignores that the reset depends on the spike.
        detach_membrane: whether no gradient travels from one time step to the one before: spatial learning through
            time (SLTT; Meng et al., ICCV 2023, arXiv 2302.14311). Of the two paths on which the loss can be reached
            from a membrane potential, through the spike of the same step and through the next step's potential, the
            second is left out. What the paper saves beyond that it saves by going through the network one step after
            the other; here batch norms take a whole sequence, so the gradient is SLTT's and memory still grows with T.

    Raises:
        TypeError: a threshold that is no number, or a surrogate that cannot be called.
        ValueError: a parameter out of range.

    Example:
        >>> class Quiet(Neuron):
        ...     states = ("membrane", "fatigue")
        ...
        ...     def step(self, current, membrane, fatigue):
        ...         membrane = 0.5 * membrane + current
        ...         spike = self.fire(membrane - self.threshold - fatigue)
        ...         return spike, membrane * (1 - spike), 0.9 * fatigue + spike
        >>> Quiet()(torch.full((4, 1, 1), 1.2)).flatten()
        tensor([1., 0., 0., 1.])
    """

    decay: float | Tensor
    states: ClassVar[tuple[str, ...]] = ("membrane",)
    """Names of what a neuron keeps from step to step; all start at 0."""
    binary: ClassVar[bool] = True
    """Whether it gives 0 and 1 alone, which may be kept as bits."""

    def __init__(
        self,
        threshold: Threshold = 1.0,
        surrogate: Surrogate | None = RECTANGLE,
        reset: Reset = "hard",
        detach_reset: bool = False,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__()
        check_parameters(1.0, threshold, reset)
        if not (surrogate is None or callable(surrogate)):
            raise TypeError(f"a surrogate is called with the distance from the threshold, got {surrogate!r}")
        self.threshold = threshold
        self.surrogate: Surrogate = surrogate or RECTANGLE
        self.reset: Reset = reset
        self.detach_reset = detach_reset
        self.detach_membrane = detach_membrane

    def step(self, current: Any, *states: Any) -> tuple[Any, ...]:
        """Return the spikes of one time step and the states after it.

        Args:
            current: ``[N, ...]``.
            states: before the step, ``[N, ...]`` each.
        """
        (membrane,) = states
        membrane = self.decay * membrane + current
        spike = self.fire(membrane - self.threshold)
        return spike, self.after(membrane, spike)

    def fire(self, v: Tensor) -> Tensor:
        """Return 1 where ``v``, the distance from the threshold, is greater than 0, else 0; backwards the surrogate."""
        return straight_through((v > 0).to(v.dtype), v, self.surrogate)

    def after(self, membrane: Tensor, spike: Tensor) -> Tensor:
        """Return the membrane potential after the reset."""
        down = spike.detach() if self.detach_reset else spike
        return membrane - self.threshold * down if self.reset == "soft" else membrane * (1 - down)

    def forward(self, current: Tensor) -> Tensor:
        """Return the spikes of a sequence that starts from states of 0."""
        return self.stream(current)[0]

    def stream(self, current: Tensor, initial: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return spikes and the states after the last step, to be passed back in with the next frames.

        Args:
            current: ``[T, N, ...]``.
            initial: states before the first step, ``[N, ...]``, or with several of them ``[N, states, ...]``; 0 by
                default.
        """
        check_call(current, initial, len(self.states))
        return sequence.stream(self, current, initial)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; the step is traced anew after that."""
        super().__setattr__(name, value)
        if name != "training":
            vars(self)["_stamp"] = f"{os.getpid()}-{_PROCESS}-{next(_STAMPS)}"

    def extra_repr(self) -> str:
        """Show the parameters."""
        decay = getattr(self, "decay", None)
        decay = float(decay.detach()) if isinstance(decay, Tensor) else decay
        parts = [] if decay is None else [f"decay={decay:g}"]
        parts += [f"threshold={self.threshold:g}, surrogate={self.surrogate}, reset={self.reset}"]
        flags = {"detach_reset": self.detach_reset, "detach_membrane": self.detach_membrane}
        return ", ".join(parts + [name for name, on in flags.items() if on])


_STAMPS = itertools.count()
# A neuron that was pickled brings its stamp along, and what was traced for it, into a process that counts anew.
_PROCESS = uuid.uuid4().hex


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
        surrogate: Surrogate | None = RECTANGLE,
        reset: Reset = "hard",
        detach_reset: bool = False,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__(threshold, surrogate, reset, detach_reset, detach_membrane)
        check_parameters(decay, threshold, reset)
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
        surrogate: Surrogate | None = RECTANGLE,
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
        surrogate: Surrogate | None = RECTANGLE,
        reset: Reset = "hard",
        detach_reset: bool = False,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__(threshold, surrogate, reset, detach_reset, detach_membrane)
        check_parameters(decay, threshold, reset)
        if not 0.0 < decay < 1.0:
            raise ValueError(f"PLIF starts from a decay between 0 and 1, both excluded, got {decay}")
        self.w = nn.Parameter(torch.tensor(math.log(decay / (1.0 - decay))))

    @property
    def decay(self) -> Tensor:  # type: ignore[override]
        """Return sigmoid(w)."""
        return torch.sigmoid(self.w)


def check_call(current: Tensor, initial: Tensor | None, states: int) -> None:
    """Refuse a sequence that makes no sense.

    Raises:
        TypeError: naming the argument.
        ValueError: naming the argument.
    """
    if not isinstance(current, Tensor):
        raise TypeError(f"neurons need a tensor, got {type(current).__name__}")
    if current.dim() < 2 or current.shape[0] == 0:
        raise ValueError(
            f"neurons need a current [T, N, ...] with at least 1 time step, got shape {tuple(current.shape)}"
        )
    if not current.is_floating_point():
        raise ValueError(f"neurons need a floating-point current, got {current.dtype}")
    if initial is None:
        return
    shape = state_shape(current, states)
    if initial.shape != shape:
        raise ValueError(f"the initial membrane potential must have shape {shape}, got {tuple(initial.shape)}")
    if initial.device != current.device:
        raise ValueError(f"the initial membrane potential is on {initial.device} and the current on {current.device}")


def state_shape(current: Tensor, states: int) -> tuple[int, ...]:
    """Return the shape of what a neuron with so many states starts a sequence from."""
    batch, *rest = current.shape[1:]
    return (batch, *rest) if states == 1 else (batch, states, *rest)


def check_parameters(decay: float | Tensor, threshold: float, reset: str) -> None:
    """Refuse neuron parameters that make no sense.

    Raises:
        TypeError: naming the parameter.
        ValueError: naming the parameter.
    """
    for name, value, kinds in (("decay", decay, (Tensor, Real)), ("threshold", threshold, (Real,))):
        # A threshold that is a tensor would look as if it were learned.
        if not isinstance(value, kinds):
            raise TypeError(f"a neuron's {name} must be a number, got {value!r}")
    if isinstance(decay, Tensor):
        if decay.dim() != 0:
            raise ValueError(f"a learnable decay is one number (0-dimensional), got shape {tuple(decay.shape)}")
    elif not 0.0 <= decay <= 1.0:
        raise ValueError(f"decay is the factor on the membrane potential in a step, from 0 to 1, got {decay}")
    if not (math.isfinite(threshold) and threshold > 0):
        raise ValueError(f"the threshold must be finite and > 0, got {threshold}")
    if reset not in get_args(Reset):
        raise ValueError(f"reset must be one of {', '.join(get_args(Reset))}, got {reset!r}")


def is_plain(neuron: nn.Module) -> bool:
    """Say whether a neuron is its step, and nothing stands for its methods."""
    kind: Any = type(neuron)
    own = vars(neuron)
    # Written out, since torch 2.9 compiles no set of an object's attributes.
    replaced = "forward" in own or "stream" in own or "step" in own
    return (
        isinstance(neuron, Neuron) and kind.forward is Neuron.forward and kind.stream is Neuron.stream and not replaced
    )


def is_lif(neuron: nn.Module) -> bool:
    """Say whether a neuron is plain and its step the LIF neuron's."""
    kind: Any = type(neuron)
    return is_plain(neuron) and (kind.step, kind.fire, kind.after) == (Neuron.step, Neuron.fire, Neuron.after)
