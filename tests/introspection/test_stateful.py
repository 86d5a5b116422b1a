"""Networks that keep state between calls, as SpikingJelly's do, and readouts of every time step."""

import pytest
import snntorch
import torch
from snntorch import utils
from spikingjelly.activation_based import neuron
from torch import Tensor, nn
from torchmetrics import MeanMetric

from shortcut_snn import Shortcut, attach
from shortcut_snn.neurons import ATan, straight_through

from ..method.toys import Staged
from ..method.wrapped import wrapped


class Stateful(nn.Module):
    """SpikingJelly's neurons, called once per sequence (``"m"``) or once per time step (``"s"``)."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.layer1 = nn.Sequential(nn.Linear(4, 5), neuron.LIFNode(step_mode=mode))
        self.layer2 = nn.Sequential(nn.Linear(5, 6), neuron.LIFNode(step_mode=mode))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "m":
            return self.head(self.layer2(self.layer1(x)).mean(0))
        return torch.stack([self.head(self.layer2(self.layer1(step))) for step in x]).mean(0)


def wrap(network: nn.Module, mode: str) -> Shortcut:
    return wrapped(network, num_classes=3, example=10 * torch.rand(6, 2, 4), time_axis=0 if mode == "m" else None)


@pytest.mark.parametrize("mode", ["m", "s"])
def test_the_dry_pass_leaves_the_neurons_state(mode: str) -> None:
    network, x = Stateful(mode), 10 * torch.rand(6, 2, 4)
    wrap(network, mode)
    assert network.layer1[1].v == 0.0
    # Also a state that an earlier pass left, with its graph.
    network(x)
    state = network.layer1[1].v
    kept = state.clone()
    wrap(network, mode)
    assert network.layer1[1].v is state
    assert torch.equal(state, kept)


class InPlace(nn.Module):
    """A neuron of one's own, of one time step, whose reset writes zeros over its potential."""

    v: Tensor | None = None

    def reset(self) -> None:
        if self.v is not None:
            self.v.zero_()

    def forward(self, x: Tensor) -> Tensor:
        v = 0.5 * (torch.zeros_like(x) if self.v is None or self.v.shape != x.shape else self.v) + x
        spike = straight_through((v > 1).float(), v - 1, ATan())
        self.v = v * (1 - spike)
        return spike


def test_a_reset_in_place_is_refused() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer1 = nn.Sequential(nn.Linear(20, 16), InPlace())
            self.layer2 = nn.Sequential(nn.Linear(16, 16), InPlace())
            self.head = nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.head(self.layer2(self.layer1(step))) for step in x]).mean(0)

        def reset(self) -> None:
            self.layer1[1].reset()
            self.layer2[1].reset()

    options = {"example": 4 * torch.rand(4, 8, 20), "labels": torch.arange(8) % 3, "loop": "network", "log": len}
    with pytest.raises(ValueError, match=r"pass reset=.*net.reset\(\)"):
        attach(Network(), **options)
    with pytest.raises(ValueError, match="writes into tensors that the backward pass needs"):
        attach(Network(), reset=Network.reset, **options)


def test_a_reset_that_misses_copies_is_refused_where_the_librarys_own_suffices() -> None:
    network = nn.Sequential(nn.Linear(6, 12), snntorch.Leaky(0.5, init_hidden=True), nn.Linear(12, 3))
    options = {"example": 4 * torch.rand(8, 6), "loop": 4, "readout": "mean", "log": len}
    with pytest.raises(ValueError, match=r"also in copies .*; leave reset=\.\.\. out, since snnTorch's own suffices"):
        attach(network, reset=utils.reset, **options)
    assert attach(network, **options).layout.reset is not None


def test_a_metric_in_the_network_is_no_state() -> None:
    class Counting(Stateful):
        def __init__(self) -> None:
            super().__init__("m")
            self.rate = MeanMetric()

        def forward(self, x: Tensor) -> Tensor:
            spikes = self.layer1(x)
            self.rate.update(spikes)
            return self.head(self.layer2(spikes).mean(0))

    x = 10 * torch.rand(6, 2, 4)
    model = attach(Counting(), example=x, labels=torch.tensor([0, 1]))
    model.network.rate.reset()
    for _ in range(2):
        model(x)
    assert model.network.rate.update_count == 2
    assert model.network.rate.compute() > 0
    assert model.network.layer1[1].v == 0.0


def test_old_style_weight_norm_is_supported() -> None:
    network = Staged()
    with pytest.warns(FutureWarning, match="weight_norm"):
        nn.utils.weight_norm(network.layer1[0])
    x = torch.randn(2, 3, 4)
    model = wrapped(network, num_classes=3, example=x)
    model(x).branches[0].sum().backward()
    assert network.layer1[0].weight_g.grad is not None
