"""The peers compute what the network of this package computes, so that timing them side by side means something."""

from dataclasses import replace

import pytest
import torch

from research.benchmarks import tasks
from research.benchmarks.cell import Cell
from research.benchmarks.measure.agreement import ROUNDING, Agreement, check, compare
from research.benchmarks.tasks import Observation

# Not narrower: on processors with AVX2 and no more, torch 2.13's gradient of a 1x1 convolution of stride 2 of 2 or 4
# channels writes past its end.
TINY = Cell("networks", "resnet18", width=8, batch=4, time_steps=2, size=8, classes=5)


def by_name(cell: Cell, *names: str) -> dict[str, list[Agreement]]:
    found: dict[str, list[Agreement]] = {}
    for agreement in check(cell, "cpu", names or tasks.names(cell)):
        found.setdefault(agreement.contender, []).append(agreement)
    return found


def test_networks_agree():
    found = by_name(TINY)
    assert list(found) == [name for name in tasks.names(TINY) if not name.startswith(tasks.DENSE)]
    assert all(agreement.agreed for each in found.values() for agreement in each)
    # Batch statistics of one step are not those of all steps, so the loop is compared without them.
    assert {a.statistics for a in found["snntorch, loop over time"]} == {"running"}
    assert {a.statistics for a in found["snntorch, fused in time"]} == {"batch", "running"}


def test_networks_that_are_only_used_agree_under_autocast():
    # Large enough that a flipped spike is a small part of a layer's.
    cell = replace(TINY, part="inference", batch=16, size=16, precision="bfloat16")
    chosen = ["shortcut-snn, deployed", "spikingjelly", "spikingjelly, bfloat16 membrane"]
    found = by_name(cell, *chosen)
    assert list(found) == chosen
    assert all(agreement.agreed for each in found.values() for agreement in each)
    assert {a.statistics for each in found.values() for a in each} == {"running"}


@pytest.mark.parametrize("network", ["linear-lif", "linear-clif", "linear-klif", "linear-ilif"])
def test_neurons_agree(network):
    cell = Cell("neuron", network, width=16, batch=2, time_steps=30)
    found = by_name(cell)
    assert list(found) == tasks.names(cell)[:-1]
    assert all(agreement.agreed for each in found.values() for agreement in each)
    assert found["shortcut-snn"][0].own_rate > 0.02


def test_branches_leave_the_network_alone():
    found = by_name(replace(TINY, part="method"))
    assert found
    assert all(agreement.agreed for each in found.values() for agreement in each)


@pytest.mark.parametrize("change", ["rates", "loss", "gradient", "logits"])
def test_what_differs_does_not_agree(change):
    seen = Observation(torch.tensor([0.0, 1.0]), 1.0, [0.1, 0.2], 2.0)
    other = {"rates": [0.1, 0.201], "loss": 1.01, "gradient": 2.02, "logits": torch.tensor([0.1, 1.0])}[change]
    assert compare("same", seen, seen, ROUNDING, "batch").agreed
    assert not compare("other", replace(seen, **{change: other}), seen, ROUNDING, "batch").agreed


def test_silent_networks_do_not_agree():
    silent = Observation(torch.tensor([0.0, 1.0]), 1.0, [0.1, 0.0], 0.0)
    assert not compare("same", silent, silent, ROUNDING, "batch").agreed


def test_the_dense_runs_the_convolutions_of_the_network():
    bound = tasks.build(TINY, "dense convolutions, channels-last", "cpu", tasks.shared_state(TINY))
    bound.step()
    layers = [bound.convolutions.stem, bound.convolutions.classifier, *bound.convolutions.blocks]
    weights = [p for layer in layers for key, p in layer.named_parameters() if "norm" not in key]
    assert len(weights) == 1 + 2 + 16 + 3  # stem, classifier with its bias, blocks, projections
    assert all(weight.grad is not None for weight in weights)
    assert bound.convolutions.spikes.grad.shape == (2 * 4, 8, 8, 8)
    bound.release()
    assert all(weight.grad is None for weight in weights)
