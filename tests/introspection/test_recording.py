"""What a neuron keeps besides its state is left alone: a rate that a loss is made of, what was prepared, counters."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn import LogitSum, Shortcut, attach
from shortcut_snn.neurons import ATan, straight_through

LABELS = torch.arange(5) % 3


class Recording(nn.Module):
    """A neuron of one's own with a decay that may be prepared before the pass, its rate and its spikes to be read."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(0.0))
        self.decay: Any = 0.5
        self.v: Any = 0.0
        self.rate: Any = None
        self.spikes: list[Tensor] = []
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.spikes = []
        for current in x:
            v = self.decay * self.v + current
            spike = straight_through((v > 1).to(v.dtype), v - 1, ATan())
            self.v = v * (1 - spike)
            self.spikes.append(spike)
        self.rate = torch.stack(self.spikes).mean()
        return torch.stack(self.spikes)


class Network(nn.Module):
    def __init__(self, kind: type[Recording]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer1, self.layer2, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.neuron1, self.neuron2 = kind(), kind()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.neuron2(self.layer2(self.neuron1(self.layer1(x)))))


def frames(seed: int = 0) -> Tensor:
    return 6 * torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(seed))


def rest(network: nn.Module) -> None:
    for neuron in network.modules():
        if isinstance(neuron, Recording):
            neuron.v = torch.zeros_like(neuron.v[:1]) if isinstance(neuron, Buffered) else 0.0


def wrapped(kind: type[Recording]) -> tuple[Network, Shortcut]:
    network = Network(kind)
    model = attach(network, example=frames(), labels=LABELS, loop="network", readout="mean", reset=rest, log=len)
    return network, model


def rates(network: Network) -> Tensor:
    return network.neuron1.rate + network.neuron2.rate


def test_a_loss_over_what_neurons_record_has_its_gradient() -> None:
    plain = Network(Recording)
    (F.cross_entropy(plain(frames()).mean(0), LABELS) + 10 * rates(plain)).backward()
    network, model = wrapped(Recording)
    # Neither graph nor state goes from one pass to the next, with or without gradients.
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            model(frames(1))
    for _ in range(2):
        network.zero_grad()
        (LogitSum()(model(frames()), LABELS, 0.0) + 10 * rates(network)).backward()
        for one, other in zip(network.parameters(), plain.parameters(), strict=True):
            assert (one.grad is None) == (other.grad is None)
            if one.grad is not None:
                torch.testing.assert_close(one.grad, other.grad)
    assert len(network.neuron1.spikes) == 4


def test_what_was_prepared_before_a_pass_learns() -> None:
    plain = Network(Recording)
    network, model = wrapped(Recording)
    for each in (plain, network):
        for neuron in (each.neuron1, each.neuron2):
            neuron.decay = torch.sigmoid(neuron.w)
    F.cross_entropy(plain(frames()).mean(0), LABELS).backward()
    LogitSum()(model(frames()), LABELS, 0.0).backward()
    assert plain.neuron1.w.grad is not None
    torch.testing.assert_close(network.neuron1.w.grad, plain.neuron1.w.grad)


def test_counters_persist() -> None:
    network, model = wrapped(Recording)
    for _ in range(3):
        model(frames())
    assert network.neuron1.calls == 3
    assert network.neuron1.v == 0.0


class Buffered(Recording):
    """Its potential is a buffer, which is brought to another precision with the network."""

    def __init__(self) -> None:
        super().__init__()
        del self.v
        self.register_buffer("v", torch.zeros(1), persistent=False)


def test_a_state_in_a_buffer_has_the_networks_precision() -> None:
    network, model = wrapped(Buffered)
    assert model(frames()).main.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        model(frames())
    assert network.neuron1.v.dtype == torch.float32
    model.bfloat16()
    for _ in range(2):
        assert model(frames().bfloat16()).main.dtype == torch.bfloat16
        assert network.neuron1.v.dtype == torch.bfloat16
    model.float()
    assert model(frames()).main.dtype == torch.float32
