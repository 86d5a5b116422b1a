"""tdBN against its paper's formula and SpikingJelly's layer, and the alpha of each norm."""

from functools import partial

import pytest
import torch
from spikingjelly.activation_based import layer
from torch import nn

from shortcut_snn import nets
from shortcut_snn.nets.network import start_at_threshold
from shortcut_snn.neurons import LIF, NormNeuron

from .helpers import by_name

HALF = 0.5**0.5


def weights(network: nets.SpikingNetwork) -> dict[str, float]:
    """The weight of each batch norm, which is the same in all its channels."""
    norms = {n: m for n, m in network.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    assert all(len(norm.weight.unique()) == 1 for norm in norms.values())
    return {name: round(norm.weight[0].item(), 6) for name, norm in norms.items()}


def test_tdbn_equals_the_formula_and_spikingjelly() -> None:
    norm = NormNeuron(nn.BatchNorm2d(3), LIF(threshold=0.7)).double()
    start_at_threshold(norm)
    x = torch.randn(4, 5, 3, 6, 6, dtype=torch.float64) * 3 + 1
    ours = norm.norm(x.flatten(0, 1)).view_as(x)
    mean, var = x.mean((0, 1, 3, 4), keepdim=True), x.var((0, 1, 3, 4), correction=0, keepdim=True)
    torch.testing.assert_close(ours, 1.0 * 0.7 * (x - mean) / (var + 1e-5).sqrt())
    theirs = layer.ThresholdDependentBatchNorm2d(1.0, 0.7, 3).double()
    torch.testing.assert_close(ours, theirs(x))
    assert ours.std().item() == pytest.approx(0.7, rel=0.01)


def test_alpha_of_each_norm() -> None:
    make = partial(LIF, threshold=0.5)
    expected = {
        "basic": {"stem.spike": 1, "layer2.0.spike1": 1, "layer2.0.spike2": HALF, "layer2.0.project": HALF},
        "sew": {"stem.spike": 1, "layer2.0.spike1": 1, "layer2.0.spike2": 1, "layer2.0.project.spike": 1},
        "ms": {"stem": 1, "layer2.0.spike2": 1, "layer2.0.norm2": HALF, "layer2.0.project": HALF},
    }
    for block, alphas in expected.items():
        network = nets.spiking_resnet19(3, 2, width=2, block=block, norm="tdbn", make_neuron=make)
        initial = weights(network)
        for name, alpha in (alphas | {"hidden_spike": 1}).items():
            key = name if name.endswith("norm2") else f"{name}.norm"
            assert initial[key] == round(0.5 * alpha, 6), (block, key)


def test_a_vgg_starts_at_the_threshold() -> None:
    assert set(
        weights(nets.spiking_vgg11(3, 2, width=2, norm="tdbn", make_neuron=partial(LIF, threshold=0.3))).values()
    ) == {0.3}


@pytest.mark.parametrize("name", ["resnet18", "vgg11"])
def test_tdbn_changes_only_the_weights_of_norms(name: str) -> None:
    states = []
    for norm in ("bn", "tdbn"):
        torch.manual_seed(0)
        states.append(by_name(name, 3, 2, width=2, norm=norm).state_dict())
    assert states[0].keys() == states[1].keys()
    changed = {key for key in states[0] if not torch.equal(states[0][key], states[1][key])}
    summed = {key for key in states[0] if key.endswith((".spike2.norm.weight", ".project.norm.weight"))}
    assert changed == (summed if name == "resnet18" else set())
