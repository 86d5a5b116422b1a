"""Networks that keep state between calls, as SpikingJelly's do, and readouts of every time step."""

import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

from shortcut_snn import Shortcut

from .toys import Staged, small


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
    return Shortcut(network, num_classes=3, example=10 * torch.rand(6, 2, 4), time_axis=0 if mode == "m" else None)


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


def test_both_step_modes_give_the_same_branches() -> None:
    x = 10 * torch.rand(6, 2, 4)
    models = {mode: wrap(Stateful(mode), mode) for mode in "ms"}
    models["s"].load_state_dict(models["m"].state_dict())
    outputs = {mode: model(x) for mode, model in models.items()}
    assert models["m"].network.layer1(x).mean() > 0
    for multi, single in zip(outputs["m"].branches, outputs["s"].branches, strict=True):
        torch.testing.assert_close(multi, single)
    functional.reset_net(models["s"])
    assert torch.equal(models["s"](x).branches[0], outputs["s"].branches[0])


def test_a_network_with_weight_normalisation_of_the_old_kind_is_wrapped() -> None:
    network = Staged()
    with pytest.warns(FutureWarning, match="weight_norm"):
        nn.utils.weight_norm(network.layer1[0])
    x = torch.randn(2, 3, 4)
    model = Shortcut(network, num_classes=3, example=x)
    model(x).branches[0].sum().backward()
    assert network.layer1[0].weight_g.grad is not None


@pytest.mark.parametrize("training", [True, False])
def test_a_readout_turns_the_logits_of_every_step_into_those_of_the_whole(training: bool) -> None:
    model = Shortcut(small(readout="sequence"), num_classes=3, readout=lambda logits: logits.mean(0)).train(training)
    plain = Shortcut(small(), num_classes=3).train(training)
    plain.load_state_dict(model.state_dict())
    images = torch.rand(4, 3, 8, 8)
    output, expected = model(images), plain(images)
    torch.testing.assert_close(output.main, expected.main, rtol=1e-6, atol=1e-6)
    assert len(output.branches) == (3 if training else 0)
    assert all(torch.equal(a, b) for a, b in zip(output.branches, expected.branches, strict=True))
    assert model.network(images).shape == (2, 4, 3)
