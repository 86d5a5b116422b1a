"""The base class of neurons, and the neurons of the paper: LIF, IF and PLIF."""

import math
import uuid
from numbers import Real
from typing import Annotated, Any, ClassVar, Literal, get_args

import torch
from annotated_types import Gt, Interval
from torch import Tensor, nn

from .. import components
from .sequence import run_as_written, run_in_kernels, runs_in_kernels
from .step_functions import straight_through
from .surrogate import Rectangle, Surrogate

Reset = Literal["hard", "soft"]
Threshold = Annotated[float, Gt(0)]
Decay = Annotated[float, Interval(ge=0.0, le=1.0)]
RECTANGLE = Rectangle()


class Neuron(nn.Module):
    """Base class of neurons: maps an input current ``[T, N, ...]`` to spikes of the same shape.

    A neuron is its :meth:`step`, one time step in plain PyTorch. The step is traced, and everything else is derived
    from it: the fused CPU and GPU kernels (with batch norm, residual and bit-packed spikes), the backward pass,
    streaming, folding and export. :mod:`.compiler.lowering` lists the operations that a step may use. Other steps run
    in plain PyTorch, with a warning.

    The base class is the LIF neuron, so a subclass may set ``decay`` alone. Other neurons override ``step`` and name
    their ``states``. A neuron that is not a step overrides ``forward`` and runs as it is.

    A step is traced again after an assignment to an attribute of the neuron. Changes that are not such an assignment,
    as of a global variable or within a list, have no effect on a traced neuron.

    Args:
        threshold: membrane potential above which a neuron fires; > 0.
        surrogate: derivative of the spike in the backward pass; ``Rectangle(1)`` by default.
        reset: ``"hard"`` sets the membrane potential to 0 after a spike; ``"soft"`` subtracts the threshold.
        detach_reset: if true, no gradient flows through the reset's dependence on the spike.
        detach_membrane: if true, no gradient flows from a time step to the one before: spatial learning through time
            (SLTT; Meng et al., ICCV 2023, arXiv 2302.14311). Batch norms take the whole sequence, so memory grows with
            T, unlike in the paper's training loop.

    Raises:
        TypeError: the threshold is not a number, or the surrogate is not callable.
        ValueError: a parameter is out of range, or the surrogate returns spikes.

    Example:
        >>> class Fatigued(Neuron):
        ...     states = ("membrane", "fatigue")
        ...
        ...     def step(self, current, membrane, fatigue):
        ...         membrane = 0.5 * membrane + current
        ...         spike = self.fire(membrane - self.threshold - fatigue)
        ...         return spike, membrane * (1 - spike), 0.9 * fatigue + spike
        >>> Fatigued()(torch.full((4, 1, 1), 1.2)).flatten()
        tensor([1., 0., 0., 1.])
    """

    decay: float | Tensor
    """Factor on the membrane potential in a step."""
    states: ClassVar[tuple[str, ...]] = ("membrane",)
    """Names of the states that a neuron carries from step to step; all are 0 initially."""
    binary: ClassVar[bool] = True
    """Whether outputs are 0 or 1, so that they can be stored as bits."""

    def __init__(
        self,
        threshold: Threshold = 1.0,
        *,
        surrogate: Surrogate | None = RECTANGLE,
        reset: Reset = "hard",
        detach_reset: bool = False,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__()
        # A threshold that is a tensor would look like a learned one.
        self.threshold = finite("threshold", threshold)
        if threshold <= 0:
            raise ValueError(f"threshold must be > 0, got {threshold}")
        if reset not in get_args(Reset):
            raise ValueError(f"reset must be one of {', '.join(get_args(Reset))}, got {reset!r}")
        self.surrogate: Surrogate = surrogate or RECTANGLE
        _check_surrogate(self.surrogate)
        self.reset: Reset = reset
        self.detach_reset = detach_reset
        self.detach_membrane = detach_membrane

    def step(self, current: Any, *states: Any) -> tuple[Any, ...]:
        """Return the spikes of one time step and the states after it, ``[N, ...]`` each.

        Args:
            current: ``[N, ...]``.
            states: the states before the step, ``[N, ...]`` each.
        """
        (membrane,) = states
        membrane = self.decay * membrane + current
        spike = self.fire(membrane - self.threshold)
        return spike, self.after(membrane, spike)

    def fire(self, v: Tensor) -> Tensor:
        """Return 1 where ``v``, the distance from the threshold, is above 0; its derivative is the surrogate."""
        return straight_through((v > 0).to(v.dtype), v, self.surrogate)

    def after(self, membrane: Tensor, spike: Tensor) -> Tensor:
        """Return the membrane potential after the reset."""
        spike = spike.detach() if self.detach_reset else spike
        return membrane - self.threshold * spike if self.reset == "soft" else membrane * (1 - spike)

    def forward(self, current: Tensor) -> Tensor:
        """Return the spikes ``[T, N, ...]`` of a sequence; the states are 0 before its first step."""
        return self.stream(current)[0]

    def stream(self, current: Tensor, initial: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return spikes and the states after the last step; pass the states back in with the next frames.

        States of a half-precision current are float32.

        Args:
            current: ``[T, N, ...]``.
            initial: states before the first step: ``[N, ...]``, or ``[N, states, ...]`` for several. None for 0.
        """
        check_call(current, initial, len(self.states))
        steps = current.shape[0]
        if runs_in_kernels(self, current, steps):
            return run_in_kernels(self, current, steps, initial=initial, want_final=True)
        return run_as_written(self, current, initial)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, and mark the traced step as outdated."""
        if name == "surrogate":
            # A function may replace a module.
            self._modules.pop(name, None)
        super().__setattr__(name, value)
        if name != "training":
            # Unique in all processes, since a pickled neuron takes it along.
            vars(self)["_attributes_version"] = uuid.uuid4().hex

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes to copy or pickle, without the traced step: its code may differ where it is loaded."""
        return {name: value for name, value in vars(self).items() if name != "_traced_steps"}

    def extra_repr(self) -> str:
        """Return the parameters as text."""
        values = {name: getattr(self, name, None) for name in ("decay", "threshold")}
        # One number for each channel has a mean.
        means = {name: x.detach().float().mean() if isinstance(x, Tensor) else x for name, x in values.items()}
        parts = [f"{name}={float(value):g}" for name, value in means.items() if value is not None]
        parts += [f"surrogate={self.surrogate}, reset={self.reset}"]
        flags = {"detach_reset": self.detach_reset, "detach_membrane": self.detach_membrane}
        return ", ".join(parts + [name for name, enabled in flags.items() if enabled])


@components.neuron("lif")
class LIF(Neuron):
    """Leaky integrate-and-fire neuron.

    In a step, with input current I, membrane potential u and spike s::

        u_pre[t] = decay * u[t - 1] + I[t]
        s[t]     = 1 if u_pre[t] > threshold else 0
        u[t]     = u_pre[t] * (1 - s[t])            hard reset
        u[t]     = u_pre[t] - threshold * s[t]      soft reset

    Args:
        decay: factor on the membrane potential in a step, from 0 to 1. It is the paper's tau, snnTorch's ``beta`` and
            SpikingJelly's ``1 - 1 / tau``.

    Example:
        >>> LIF(decay=0.5)(torch.full((4, 1, 1), 0.75)).flatten()
        tensor([0., 1., 0., 1.])
    """

    def __init__(
        self,
        decay: Decay = 0.5,
        threshold: Threshold = 1.0,
        *,
        surrogate: Surrogate | None = RECTANGLE,
        reset: Reset = "hard",
        detach_reset: bool = False,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__(
            threshold, surrogate=surrogate, reset=reset, detach_reset=detach_reset, detach_membrane=detach_membrane
        )
        self.decay = from_0_to_1("decay", decay)


@components.neuron("if")
class IF(Neuron):
    """Integrate-and-fire neuron: a LIF neuron with a decay of 1, so the membrane does not leak.

    Example:
        >>> IF()(torch.full((4, 1, 1), 0.75)).flatten()
        tensor([0., 1., 0., 1.])
    """

    decay = 1.0


@components.neuron("plif")
class PLIF(Neuron):
    """Parametric LIF neuron: the layer learns its decay, ``decay = sigmoid(w)``.

    Fang et al., "Incorporating Learnable Membrane Time Constant to Enhance Learning of Spiking Neural Networks",
    ICCV 2021.

    Args:
        decay: initial factor on the membrane potential in a step, between 0 and 1 (exclusive).

    Example:
        >>> PLIF(decay=0.5).w
        Parameter containing:
        tensor(0., requires_grad=True)
    """

    def __init__(
        self,
        decay: Annotated[float, Interval(gt=0.0, lt=1.0)] = 0.5,
        threshold: Threshold = 1.0,
        *,
        surrogate: Surrogate | None = RECTANGLE,
        reset: Reset = "hard",
        detach_reset: bool = False,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__(
            threshold, surrogate=surrogate, reset=reset, detach_reset=detach_reset, detach_membrane=detach_membrane
        )
        decay = finite("decay", decay)
        if not 0.0 < decay < 1.0:
            raise ValueError(f"the initial decay of PLIF must be between 0 and 1 (exclusive), got {decay}")
        self.w = nn.Parameter(torch.tensor(math.log(decay / (1.0 - decay))))

    @property
    def decay(self) -> Tensor:  # type: ignore[override]
        """Factor on the membrane potential in a step, ``sigmoid(w)``."""
        return torch.sigmoid(self.w)


def check_call(current: Tensor, initial: Tensor | None, states: int) -> None:
    """Raise an error for a current or initial states that a neuron cannot take."""
    if not isinstance(current, Tensor):
        raise TypeError(f"neurons take a tensor, got {type(current).__name__}")
    if current.dim() < 2 or current.shape[0] == 0:
        raise ValueError(
            f"neurons take a current [T, N, ...] with at least 1 time step, got shape {tuple(current.shape)}"
        )
    if not current.is_floating_point():
        raise ValueError(f"neurons take a floating-point current, got {current.dtype}")
    if initial is None:
        return
    shape = state_shape(current, states)
    if initial.shape != shape:
        raise ValueError(f"initial must have shape {shape}, got {tuple(initial.shape)}")
    if initial.device != current.device:
        raise ValueError(f"initial is on {initial.device} and the current on {current.device}")


def state_shape(current: Tensor, states: int) -> tuple[int, ...]:
    """Return the shape of the states of a neuron for a current ``[T, N, ...]``."""
    batch, *features = current.shape[1:]
    return (batch, *features) if states == 1 else (batch, states, *features)


def finite(name: str, value: object) -> float:
    """Return a number as a float, which a step can be traced with."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    return float(value)


def from_0_to_1(name: str, value: object) -> float:
    """Return a number from 0 to 1 as a float."""
    number = finite(name, value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{name} must be from 0 to 1, got {value}")
    return number


@torch.no_grad()
def _check_surrogate(surrogate: Surrogate) -> None:
    """Raise an error for a surrogate that is not a function, or that returns spikes, as those of SpikingJelly do."""
    if not callable(surrogate) or isinstance(surrogate, type):
        raise TypeError(f"surrogate must be a function of the distance from the threshold, got {surrogate!r}")
    try:
        values = surrogate(torch.tensor([-1e3, -1.0, 1.0, 1e3], dtype=torch.float32, device="cpu")).tolist()
    except Exception:
        # Its parameters may be on another device. The first call shows other errors.
        return
    if values == [0.0, 0.0, 1.0, 1.0]:
        raise ValueError(
            f"surrogate must be the derivative of a spike, but {surrogate} returns the spike: pass one of "
            "shortcut_snn.neurons, such as ATan(), or a function that returns the derivative"
        )


def is_plain(neuron: nn.Module) -> bool:
    """Return whether a neuron is defined by its step, and no method is replaced on the instance."""
    kind: Any = type(neuron)
    attributes = vars(neuron)
    # Written out, since torch 2.9 cannot compile a set of an object's attributes.
    replaced = "forward" in attributes or "stream" in attributes or "step" in attributes
    return (
        isinstance(neuron, Neuron) and kind.forward is Neuron.forward and kind.stream is Neuron.stream and not replaced
    )


def is_lif(neuron: nn.Module) -> bool:
    """Return whether a neuron is defined by its step, and the step is that of the LIF neuron."""
    kind: Any = type(neuron)
    return is_plain(neuron) and (kind.step, kind.fire, kind.after) == (Neuron.step, Neuron.fire, Neuron.after)
