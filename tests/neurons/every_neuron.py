"""One of every neuron, with options that are not the defaults."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from shortcut_snn.neurons import (
    ALIF,
    CLIF,
    ILIF,
    KLIF,
    LIF,
    PLIF,
    RLIF,
    ATan,
    Neuron,
    Rectangle,
    Sigmoid,
    Synaptic,
    Tanh,
    Triangle,
    per_channel,
)


class ByChannel(LIF):
    """Each channel learns its decay."""

    def __init__(self, channels: int) -> None:
        super().__init__(surrogate=ATan())
        self.w = nn.Parameter(torch.linspace(-1, 1, channels))

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        membrane = torch.sigmoid(per_channel(self.w, current)) * membrane + current
        spike = self.fire(membrane - self.threshold)
        return spike, self.after(membrane, spike)


NEURONS: dict[str, Callable[[], Neuron]] = {
    "lif": lambda: LIF(0.7, surrogate=Triangle()),
    "plif": lambda: PLIF(0.6, surrogate=Tanh(), reset="soft"),
    "clif": lambda: CLIF(surrogate=ATan()),
    "alif": lambda: ALIF(surrogate=Sigmoid()),
    "synaptic": lambda: Synaptic(0.8, 0.6, reset="soft", surrogate=ATan()),
    "rlif": lambda: RLIF(surrogate=Rectangle(2.0), detach_reset=True),
    "klif": lambda: KLIF(surrogate=ATan()),
    "ilif": ILIF,
    "by-channel": lambda: ByChannel(5),
}


def is_active(spikes: Tensor, *gradients: Tensor) -> bool:
    """Return whether some neurons fire and no gradient is 0 throughout: silent neurons agree with any reference."""
    return bool(spikes.any()) and all(bool(gradient.any()) for gradient in gradients)


def currents(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
