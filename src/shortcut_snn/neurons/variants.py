"""Variants of the LIF neuron, and the parallel spiking neuron."""

import math
from dataclasses import dataclass
from numbers import Integral
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from .. import components
from .modules import LIF, RECTANGLE, Decay, Neuron, Reset, Threshold, finite, from_0_to_1
from .step_functions import straight_through
from .surrogate import ATan, Scaled, Surrogate

_ATAN = ATan()


@components.neuron("alif")
class ALIF(LIF):
    """Adaptive LIF neuron: each spike raises the threshold, which decays back.

    With ``a`` the rise of the threshold, a neuron fires where ``u_pre[t] > threshold + a[t - 1]``, and
    ``a[t] = adaptation * a[t - 1] + rise * s[t]``.

    Bellec et al., "Long short-term memory and learning-to-learn in networks of spiking neurons", NeurIPS 2018.

    Args:
        adaptation: factor on the rise of the threshold in a step, from 0 to 1.
        rise: amount by which a spike raises the threshold.

    Example:
        >>> ALIF(rise=0.5)(torch.full((4, 1, 1), 1.2)).flatten()
        tensor([1., 0., 1., 0.])
    """

    states: ClassVar[tuple[str, ...]] = ("membrane", "raised")

    def __init__(
        self,
        decay: Decay = 0.5,
        adaptation: Annotated[float, Interval(ge=0.0, le=1.0)] = 0.9,
        rise: Annotated[float, Ge(0)] = 0.2,
        threshold: Threshold = 1.0,
        *,
        surrogate: Surrogate | None = RECTANGLE,
        reset: Reset = "hard",
        detach_reset: bool = False,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__(
            decay, threshold, surrogate=surrogate, reset=reset, detach_reset=detach_reset,
            detach_membrane=detach_membrane,
        )  # fmt: skip
        self.adaptation, self.rise = from_0_to_1("adaptation", adaptation), finite("rise", rise)
        if rise < 0:
            raise ValueError(f"rise must be at least 0, got {rise}")

    def step(self, current: Tensor, membrane: Tensor, raised: Tensor) -> tuple[Tensor, ...]:
        """Return spikes, the membrane potential and the rise of the threshold."""
        membrane = self.decay * membrane + current
        spike = self.fire(membrane - self.threshold - raised)
        return spike, self.after(membrane, spike), self.adaptation * raised + self.rise * spike


@components.neuron("clif")
class CLIF(LIF):
    """Complementary LIF neuron: a second potential counts recent spikes and deepens the reset.

    With complementary potential ``m``: ``m[t] = m[t - 1] * sigmoid((1 - decay) * u_pre[t]) + s[t]`` and
    ``u[t] = u_pre[t] - s[t] * (threshold + sigmoid(m[t]))``, which is its reset.

    Huang et al., "CLIF: Complementary Leaky Integrate-and-Fire Neuron for Spiking Neural Networks", ICML 2024.

    Example:
        >>> CLIF()(torch.full((4, 1, 1), 1.2)).flatten()
        tensor([1., 0., 1., 1.])
    """

    states: ClassVar[tuple[str, ...]] = ("membrane", "complement")

    def __init__(
        self,
        decay: Decay = 0.5,
        threshold: Threshold = 1.0,
        *,
        surrogate: Surrogate | None = RECTANGLE,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__(decay, threshold, surrogate=surrogate, detach_membrane=detach_membrane)

    def step(self, current: Tensor, membrane: Tensor, complement: Tensor) -> tuple[Tensor, ...]:
        """Return spikes and both potentials."""
        membrane = self.decay * membrane + current
        spike = self.fire(membrane - self.threshold)
        complement = complement * torch.sigmoid((1 - self.decay) * membrane) + spike
        return spike, membrane - spike * (self.threshold + torch.sigmoid(complement)), complement


@components.neuron("klif")
class KLIF(LIF):
    """K-based LIF neuron: ``u_pre[t] = relu(k * (decay * u[t - 1] + I[t]))``; the layer learns k, which starts at 1.

    Jiang and Zhang, "KLIF: An optimized spiking neuron unit for tuning surrogate gradient slope and membrane
    potential", 2023 (arXiv 2302.09238).

    Example:
        >>> KLIF()(torch.full((4, 1, 1), 0.75)).detach().flatten()
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
            decay, threshold, surrogate=surrogate, reset=reset, detach_reset=detach_reset,
            detach_membrane=detach_membrane,
        )  # fmt: skip
        self.k = nn.Parameter(torch.tensor(1.0))

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:
        """Return spikes and the membrane potential."""
        membrane = torch.relu(self.k * (self.decay * membrane + current))
        spike = self.fire(membrane - self.threshold)
        return spike, self.after(membrane, spike)


@components.neuron("rlif")
class RLIF(LIF):
    """Recurrent LIF neuron: ``u_pre[t] = decay * u[t - 1] + I[t] + recurrent * s[t - 1]``.

    The recurrence is one to one, with a learned weight per layer: snnTorch's ``RLeaky`` with ``all_to_all=False``. An
    all-to-all recurrence would be a matrix product between two steps, which a step of single neurons cannot contain.

    Args:
        recurrent: initial recurrent weight; below 0 a spike inhibits the next one.

    Example:
        >>> RLIF(recurrent=-1.0)(torch.full((4, 1, 1), 1.2)).detach().flatten()
        tensor([1., 0., 1., 0.])
    """

    states: ClassVar[tuple[str, ...]] = ("membrane", "spikes")

    def __init__(
        self,
        decay: Decay = 0.5,
        recurrent: float = -0.5,
        threshold: Threshold = 1.0,
        *,
        surrogate: Surrogate | None = RECTANGLE,
        reset: Reset = "hard",
        detach_reset: bool = False,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__(
            decay, threshold, surrogate=surrogate, reset=reset, detach_reset=detach_reset,
            detach_membrane=detach_membrane,
        )  # fmt: skip
        self.recurrent = nn.Parameter(torch.tensor(float(recurrent)))

    def step(self, current: Tensor, membrane: Tensor, spikes: Tensor) -> tuple[Tensor, ...]:
        """Return spikes, the membrane potential, and the spikes again as a state."""
        membrane = self.decay * membrane + current + self.recurrent * spikes
        spike = self.fire(membrane - self.threshold)
        return spike, self.after(membrane, spike), spike


@components.neuron("synaptic")
class Synaptic(LIF):
    """Second-order LIF neuron: the synaptic current decays as well (snnTorch's ``Synaptic``).

    With synaptic current ``I_syn``: ``I_syn[t] = synapse * I_syn[t - 1] + I[t]`` and
    ``u_pre[t] = decay * u[t - 1] + I_syn[t]``.

    Args:
        synapse: factor on the synaptic current in a step, from 0 to 1 (snnTorch's ``alpha``).

    Example:
        >>> Synaptic()(torch.full((4, 1, 1), 0.6)).flatten()
        tensor([0., 1., 1., 1.])
    """

    states: ClassVar[tuple[str, ...]] = ("synaptic", "membrane")

    def __init__(
        self,
        decay: Decay = 0.5,
        synapse: Annotated[float, Interval(ge=0.0, le=1.0)] = 0.5,
        threshold: Threshold = 1.0,
        *,
        surrogate: Surrogate | None = RECTANGLE,
        reset: Reset = "hard",
        detach_reset: bool = False,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__(
            decay, threshold, surrogate=surrogate, reset=reset, detach_reset=detach_reset,
            detach_membrane=detach_membrane,
        )  # fmt: skip
        self.synapse = from_0_to_1("synapse", synapse)

    def step(self, current: Tensor, synaptic: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:
        """Return spikes, the synaptic current and the membrane potential."""
        synaptic = self.synapse * synaptic + current
        membrane = self.decay * membrane + synaptic
        spike = self.fire(membrane - self.threshold)
        return spike, synaptic, self.after(membrane, spike)


@dataclass(frozen=True)
class WithinBounds:
    """The surrogate of an I-LIF neuron: 1 where the membrane potential is from 0 to ``max_spikes``, else 0."""

    max_spikes: int

    def __post_init__(self) -> None:
        if not isinstance(self.max_spikes, Integral) or self.max_spikes < 1:
            raise ValueError(f"max_spikes must be an integer of at least 1, got {self.max_spikes!r}")

    def __call__(self, v: Tensor) -> Tensor:
        """Return the derivative for a membrane potential in units of the threshold."""
        return ((v >= 0) & (v <= self.max_spikes)).to(v.dtype)


@components.neuron("ilif")
class ILIF(LIF):
    """Integer LIF neuron: in training it outputs integers from 0 to ``max_spikes``, at inference as many spikes.

    ``s[t] = round(clamp(u_pre[t] / threshold, 0, max_spikes))`` and ``u[t] = u_pre[t] - threshold * s[t]``. The
    gradient passes where ``u_pre / threshold`` is from 0 to ``max_spikes``, so surrogate and reset cannot be chosen.
    See :func:`unrolled_spikes` for the spikes.

    Luo et al., "Integer-Valued Training and Spike-Driven Inference Spiking Neural Network for High-performance and
    Energy-efficient Object Detection", ECCV 2024.

    Args:
        max_spikes: largest output.
        threshold: membrane potential of one spike.

    Example:
        >>> ILIF()(torch.full((3, 1, 1), 1.8)).flatten()
        tensor([2., 2., 2.])
    """

    binary: ClassVar[bool] = False
    surrogate: Any

    def __init__(
        self,
        decay: Decay = 0.25,
        max_spikes: Annotated[int, Ge(1)] = 4,
        threshold: Threshold = 1.0,
        *,
        detach_reset: bool = False,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__(
            decay, threshold, surrogate=WithinBounds(max_spikes), reset="soft", detach_reset=detach_reset,
            detach_membrane=detach_membrane,
        )  # fmt: skip

    @property
    def max_spikes(self) -> int:
        """The largest output."""
        surrogate: Any = self.surrogate.surrogate if isinstance(self.surrogate, Scaled) else self.surrogate
        return int(surrogate.max_spikes)

    @max_spikes.setter
    def max_spikes(self, max_spikes: int) -> None:
        self.surrogate = WithinBounds(max_spikes)

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:
        """Return the spike count of each neuron and the membrane potential."""
        membrane = self.decay * membrane + current
        count = self.fire(membrane / self.threshold)
        return count, self.after(membrane, count)

    def fire(self, v: Tensor) -> Tensor:
        """Return the nearest integer from 0 to ``max_spikes``."""
        return straight_through(v.clamp(0, self.max_spikes).round(), v, self.surrogate)


def unrolled_spikes(counts: Tensor, max_spikes: int) -> Tensor:
    """Return counts ``[T, N, ...]`` as spikes ``[T * max_spikes, N, ...]``: a count of n is n spikes, then zeros.

    A convolution or linear layer without bias, summed over the ``max_spikes`` steps of a count, gives the same result
    for the spikes as for the counts, but with accumulates (AC) instead of multiply-accumulates (MAC).

    Example:
        >>> unrolled_spikes(torch.tensor([[[2.0]], [[1.0]]]), 3).flatten()
        tensor([1., 1., 0., 1., 0., 0.])
    """
    steps = torch.arange(max_spikes, device=counts.device).view(1, max_spikes, *[1] * (counts.dim() - 1))
    return (counts.unsqueeze(1) > steps).to(counts.dtype).flatten(0, 1)


@components.neuron("psn")
class PSN(Neuron):
    """Parallel spiking neuron: it has no state and no reset, and computes all time steps at once.

    ``u = weight @ I + bias`` over the axis of time, and ``s[t] = 1 if u[t] > 0``. The layer learns T * (T + 1) numbers,
    so sequences have one length. It has no step: it runs in plain PyTorch, where the matrix product dominates, and it
    cannot be streamed.

    Fang et al., "Parallel Spiking Neurons with High Efficiency and Ability to Learn Long-term Dependencies", NeurIPS
    2023.

    Args:
        time_steps: T of the network.
        surrogate: derivative of the spike in the backward pass.
        detach_membrane: False; True is refused, because a PSN has no membrane potential.

    Example:
        >>> PSN(time_steps=4)(torch.randn(4, 2, 3)).shape
        torch.Size([4, 2, 3])
    """

    def __init__(
        self,
        time_steps: Annotated[int, Ge(1)] = 4,
        *,
        surrogate: Surrogate | None = _ATAN,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__(surrogate=surrogate, detach_membrane=detach_membrane)
        self.weight = nn.Parameter(torch.empty(time_steps, time_steps))
        self.bias = nn.Parameter(torch.full((time_steps, 1), -1.0))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, current: Tensor) -> Tensor:
        """Return the spikes ``[T, N, ...]`` of a sequence.

        Raises:
            ValueError: another number of time steps, or ``detach_membrane`` is set.
        """
        steps = len(self.weight)
        if current.shape[0] != steps:
            raise ValueError(
                f"this PSN takes {steps} time steps at once, got {current.shape[0]}: set neuron.time_steps; streams, "
                "exits and progressive_resizing.time_steps need another neuron"
            )
        if self.detach_membrane:
            raise ValueError("PSN has no membrane potential to detach, as detach_membrane (SLTT) requires: use bptt")
        # Less precise potentials would change spikes.
        dtype = torch.float64 if current.dtype == torch.float64 else torch.float32
        # A network is folded with tensors without data, whose device has no autocast.
        with torch.autocast("cpu" if current.is_meta else current.device.type, enabled=False):
            potential = torch.addmm(self.bias.to(dtype), self.weight.to(dtype), current.flatten(1).to(dtype))
        return self.fire(potential).to(current.dtype).view(current.shape)

    def stream(self, current: Tensor, initial: Any = None) -> tuple[Tensor, Tensor]:
        """Return the spikes of a whole sequence and an empty state.

        Raises:
            ValueError: an initial state is passed.
        """
        if initial is not None:
            raise ValueError("PSN computes a whole sequence and cannot start from the state of an earlier sequence")
        return self(current), current.new_empty(0)
