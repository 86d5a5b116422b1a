"""``strip`` with proof: what ships computes, bit for bit, what the wrapped network computed."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shortcut_snn import LossSum, attach
from shortcut_snn.neurons import LIF

from .peers import LABELS, PEERS, Peer, frames, integrating
from .toys import Noisy, Staged, hooks
from .wrapped import wrapped


@pytest.mark.parametrize("peer", [PEERS[name] for name in ("spikingjelly s", "snntorch loop", "norse sequence")])
def test_strip_checks_and_returns_a_trained_network(peer: Peer) -> None:
    network, x = peer.make(), frames()
    keys = list(network.state_dict())
    model = attach(network, peer.taps, example=x, **peer.said)
    LossSum()(model(x), LABELS, 0.5).backward()
    assert model.strip(check=x) is network
    assert hooks(network) == 0
    assert list(network.state_dict()) == keys
    assert model.eval()(x).branches == ()
    model.strip()
    with pytest.warns(UserWarning, match="attach the network again"):
        assert model.train()(x).branches == ()


@pytest.mark.parametrize("whose", ["own", "numpy's own", "python"])
def test_both_passes_of_the_check_draw_the_same_noise(whose: str) -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.generator, self.numpy = torch.Generator(), np.random.default_rng(0)

        def forward(self, x: Tensor) -> Tensor:
            drawn = {
                "own": lambda: torch.rand(x.shape, generator=self.generator),
                "numpy's own": lambda: torch.from_numpy(self.numpy.random(x.shape)).float(),
                "python": lambda: torch.tensor([random.random() for _ in range(x.numel())]).view(x.shape),
            }
            return (drawn[whose]() < x).float()

    network = nn.Sequential(Encoder(), nn.Linear(20, 20), LIF(), nn.Linear(20, 20), LIF(), nn.Linear(20, 3))
    with torch.no_grad():
        for number in (1, 3):
            network[number].weight.mul_(6)
    x = torch.rand(4, 6, 20)
    model = attach(network, example=x, labels=torch.arange(6) % 3)
    before = [network[0].generator.get_state(), network[0].numpy.bit_generator.state, random.getstate()]
    assert model.strip(check=x) is network
    assert torch.equal(network[0].generator.get_state(), before[0])
    assert [network[0].numpy.bit_generator.state, random.getstate()] == before[1:]


@pytest.mark.parametrize("training", [True, False])
def test_the_check_leaves_modes_buffers_and_random_numbers_alone(training: bool) -> None:
    images = torch.rand(4, 2, 8, 8)
    model = wrapped(Noisy(), num_classes=3, example=images, time_axis=None).train(training)
    model.network.layer1[1].eval()
    modes = [module.training for module in model.network.modules()]
    state = {key: value.clone() for key, value in model.network.state_dict().items()}
    drawn = torch.get_rng_state()
    # It draws a random number in every pass: the same one for both.
    network = model.strip(check=images)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_a_tap_that_changes_the_network_is_found_out() -> None:
    def halve(features: Tensor) -> Tensor:
        return features.mul_(0.5)

    x = torch.randn(2, 4, 4)
    model = wrapped(Staged(), ["layer1"], num_classes=3, example=x, extract=halve)
    with pytest.raises(ValueError, match=r"Staged gives one output with the taps and another without: .*: 12 / 12"):
        model.strip(check=x)
    assert hooks(model.network) == 1
    assert len(model(x).branches) == 1


def test_strip_leaves_buffers_as_they_were() -> None:
    network, x = Counting(), torch.rand(8, 4)
    attach(network, ["spike"], example=x, labels=torch.arange(8) % 3, method="loss_sum").strip(check=x)
    assert network.calls == 0


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.spike, self.last = nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        return self.last(self.spike(self.first(x)))


def test_strip_detects_state_that_is_not_reset() -> None:
    network, x = integrating()
    model = attach(network, ["0"], example=x, reset=None)
    with pytest.raises(ValueError, match="reset"):
        model.strip(check=x)
    assert hooks(network) == 1
    assert attach(network, ["0"], example=x).strip(check=x) is network
    assert network[1].v == 0.0
