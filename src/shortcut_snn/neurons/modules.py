"""Neurons as modules: parameters held, no state kept."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from . import functional, sltt
from .functional import Reset
from .surrogate import Rectangle, Surrogate


class Neuron(nn.Module):
    """Base of the neurons: maps a current ``[T, N, ...]`` to spikes of the same shape.

    Args:
        threshold: a neuron fires where its membrane potential is greater than this.
        surrogate: ds/du in the backward pass; ``Rectangle(1)`` by default.
        reset: ``"hard"`` to 0, or ``"soft"``: the threshold is subtracted.
        detach_reset: whether the gradient ignores that the reset depends on the spike.
        detach_membrane: whether no gradient travels through time (see :mod:`.sltt`).
    """

    def __init__(
        self,
        threshold: float = 1.0,
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
        self.surrogate: Surrogate = surrogate or Rectangle()
        self.reset: Reset = reset
        self.detach_reset = detach_reset
        self.detach_membrane = detach_membrane

    def decay(self) -> float | Tensor:
        """Return tau, the factor by which the membrane potential decays in a step."""
        raise NotImplementedError

    def forward(self, current: Tensor) -> Tensor:
        """Return the spikes of a sequence that starts from membrane potential 0."""
        return self.stream(current)[0]

    def stream(self, current: Tensor, initial: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return spikes and the final membrane potential, to be passed back in with the next frames."""
        if self.detach_membrane:
            return sltt.lif(
                current,
                self.decay(),
                threshold=self.threshold,
                surrogate=self.surrogate,
                reset=self.reset,
                initial=initial,
            )
        return functional.lif(
            current,
            self.decay(),
            threshold=self.threshold,
            surrogate=self.surrogate,
            reset=self.reset,
            detach_reset=self.detach_reset,
            initial=initial,
        )

    def extra_repr(self) -> str:
        """Show the parameters."""
        tau = self.decay()
        tau = float(tau.detach()) if isinstance(tau, Tensor) else tau
        parts = [f"tau={tau:g}, threshold={self.threshold:g}, surrogate={self.surrogate}, reset={self.reset}"]
        flags = {"detach_reset": self.detach_reset, "detach_membrane": self.detach_membrane}
        return ", ".join(parts + [name for name, on in flags.items() if on])


class LIF(Neuron):
    """Leaky integrate-and-fire; ``tau`` as in the paper: 0.5 halves the membrane potential in a step."""

    def __init__(
        self,
        tau: float = 0.5,
        threshold: float = 1.0,
        surrogate: Surrogate | None = None,
        reset: Reset = "hard",
        detach_reset: bool = False,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__(threshold, surrogate, reset, detach_reset, detach_membrane)
        functional.check_parameters(tau, threshold, reset)
        self.tau = tau

    def decay(self) -> float:
        """Return tau."""
        return self.tau


class IF(LIF):
    """Integrate-and-fire: a LIF neuron that does not leak."""

    def __init__(
        self,
        threshold: float = 1.0,
        surrogate: Surrogate | None = None,
        reset: Reset = "hard",
        detach_reset: bool = False,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__(1.0, threshold, surrogate, reset, detach_reset, detach_membrane)


class PLIF(Neuron):
    """LIF whose tau is learned, one for the layer: ``tau = sigmoid(w)`` (Fang et al., ICCV 2021)."""

    def __init__(
        self,
        tau: float = 0.5,
        threshold: float = 1.0,
        surrogate: Surrogate | None = None,
        reset: Reset = "hard",
        detach_reset: bool = False,
        detach_membrane: bool = False,
    ) -> None:
        super().__init__(threshold, surrogate, reset, detach_reset, detach_membrane)
        functional.check_parameters(tau, threshold, reset)
        if not 0.0 < tau < 1.0:
            raise ValueError(f"PLIF starts from a tau between 0 and 1, both excluded, got {tau}")
        self.w = nn.Parameter(torch.tensor(math.log(tau / (1.0 - tau))))

    def decay(self) -> Tensor:
        """Return sigmoid(w)."""
        return torch.sigmoid(self.w)


def is_plain(neuron: nn.Module) -> bool:
    """Say whether a neuron is the dynamics of :mod:`.functional`, and nothing stands for its methods."""
    kind: Any = type(neuron)
    replaced = {"forward", "stream"} & set(vars(neuron))
    return (
        isinstance(neuron, Neuron) and kind.forward is Neuron.forward and kind.stream is Neuron.stream and not replaced
    )
