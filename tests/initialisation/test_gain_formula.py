"""The formula of a layer's gradient gain holds where the page on gradients says so."""

import statistics

import pytest
import torch

from research.studies.gain_formula import membranes, predicted_gains
from shortcut_snn.measurement import examine
from shortcut_snn.measurement.layers import chain
from shortcut_snn.neurons import IF, LIF, PLIF, ATan, Rectangle

from ..diagnosis.helpers import batch, network


def test_membranes_are_those_that_fire():
    for layer in (LIF(0.5), LIF(0.7, reset="soft"), IF(), PLIF(0.3)):
        current = torch.randn(5, 40, 3) * 2
        assert torch.equal((membranes(layer, current) > layer.threshold).float(), layer(current))


def gain_ratios(surrogate, block: str, steps: int) -> list[float]:
    """Measured over predicted gain of every layer but the last."""
    net, one = network(surrogate, block, steps=steps), batch(48, 16)
    expected = predicted_gains(net.train(), one[0])
    layers = chain(examine(net, [one]).layers)
    return [layer.gain / expected[layer.layer] for layer in layers[:-1]]


@pytest.mark.parametrize("surrogate", [Rectangle(4.0), ATan()], ids=str)
def test_the_gain_formula_holds_in_plain_networks_of_one_time_step(surrogate):
    ratios = gain_ratios(surrogate, "plain", 1)
    assert statistics.geometric_mean(ratios) == pytest.approx(1.0, abs=0.05)
    assert all(0.85 < ratio < 1.15 for ratio in ratios)


@pytest.mark.parametrize(("block", "steps"), [("ms", 1), ("plain", 3)])
def test_the_gain_formula_fails_with_skip_paths_and_with_time(block, steps):
    """It does not know of the gradient that they carry, which a wide surrogate shows best."""
    assert statistics.geometric_mean(gain_ratios(Rectangle(4.0), block, steps)) > 1.1
