"""The figures of `gradients` are those of an ordinary backward pass, and measuring leaves no trace."""

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from shortcut_snn import LogitSum, Shortcut, nets
from shortcut_snn.diagnosis.gradients import gradient_rms, measure, shallow_to_deep, signal, weights


@pytest.fixture
def model():
    return Shortcut(nets.spiking_resnet8(10, 2, width=4), num_classes=10)


@pytest.fixture
def batch():
    return torch.randn(6, 3, 16, 16), torch.randint(0, 10, (6,))


def test_layers_run_from_stem_to_last_block(model):
    names = list(weights(model.network))
    assert names[0] == "stem.conv"
    assert names[-1] == "layer3.0.conv2"
    assert len(names) == 7
    assert not [name for name in names if "project" in name or "classifier" in name]


def test_without_the_method_it_is_the_plain_networks_gradient(model, batch):
    plain = copy.deepcopy(model.network).train()
    F.cross_entropy(plain(batch[0]), batch[1]).backward()
    report = measure(model, *batch, LogitSum(), 0.0)
    for name, rms in report.rms.items():
        expected = plain.get_submodule(name).weight.grad.square().mean().sqrt().item()
        assert rms == pytest.approx(expected, rel=1e-6)
    assert torch.equal(report.first, plain.stem.conv.weight.grad.flatten())
    assert report.ratio == report.rms["stem.conv"] / report.rms["layer3.0.conv2"]


def test_the_method_changes_shallow_layers_more(model, batch):
    without, with_ = (measure(model, *batch, LogitSum(), balance) for balance in (0.0, 1.0))
    assert with_.rms["stem.conv"] != without.rms["stem.conv"]


def test_measuring_leaves_no_trace(model, batch):
    LogitSum()(model(batch[0]), batch[1], 0.25).backward()
    model.eval()
    state = copy.deepcopy(model.state_dict())
    grads = [p.grad.clone() for p in model.parameters()]
    measure(model, *batch, LogitSum(), 0.25)
    assert not model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(p.grad, grad) for p, grad in zip(model.parameters(), grads, strict=True))


def test_ratio_of_degenerate_gradients():
    assert shallow_to_deep({"a": 2.0, "b": 1.0}) == 2.0
    assert shallow_to_deep({"a": 2.0, "b": 0.0}) == math.inf
    assert math.isnan(shallow_to_deep({"a": 0.0, "b": 0.0}))
    assert math.isnan(shallow_to_deep({}))


def test_no_gradients_before_a_backward_pass(model):
    assert gradient_rms(model.network) == {}


def test_signal_is_the_mean_cosine():
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])
    assert signal([a, a]) == 1.0
    assert signal([a, a, b]) == pytest.approx(1 / 3)
    assert signal([a, -a]) == -1.0
    assert math.isnan(signal([a]))
