"""Optimizers and learning rate schedules: torch's own under their names, and Muon against its parts."""

import copy
import math
from collections.abc import Callable
from typing import Any

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from shortcut_snn import components
from shortcut_snn.neurons import PLIF, PSN
from shortcut_snn.training.optimizers import Muon, make_lr_scheduler, orthogonalise, parameter_groups

RATES = {"lr": 0.02, "weight_decay": 0.1}


def layers(channels_last: bool = False) -> nn.Sequential:
    """A convolution, a point-wise one, a norm and a linear layer."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5))
    return net.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def with_gradients(net: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        drawn = torch.randn(parameter.shape, generator=generator)
        parameter.grad = drawn.to(memory_format=torch.channels_last) if drawn.dim() == 4 else drawn


@pytest.mark.parametrize("channels_last", [False, True])
def test_muon_equals_torchs_muon_and_adamw(channels_last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # torch's iteration is in bfloat16; everything else is compared to the last bit.
    monkeypatch.setattr(
        "torch.optim._muon._zeropower_via_newtonschulz",
        lambda matrix, coefficients, steps, eps: orthogonalise(matrix, eps),
    )
    net, other = layers(channels_last), layers()
    matrices = [nn.Parameter(p.detach().flatten(1).clone()) for p in other.parameters() if p.dim() > 1]
    rest = [p for p in other.parameters() if p.dim() <= 1]
    theirs = (
        torch.optim.Muon(matrices, **RATES, momentum=0.9, nesterov=True, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, **RATES, betas=(0.8, 0.99)),
    )
    ours = Muon(net.parameters(), **RATES, momentum=0.9, betas=(0.8, 0.99))
    for step in range(3):
        # A schedule moves one learning rate.
        for group in (*ours.param_groups, *(group for each in theirs for group in each.param_groups)):
            group["lr"] = 0.02 / (step + 1)
        for each in (net, other):
            with_gradients(each, step)
        for matrix, layer in zip(matrices, [p for p in other.parameters() if p.dim() > 1], strict=True):
            matrix.grad = layer.grad.flatten(1)
        ours.step()
        for each in theirs:
            each.step()
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last) == channels_last
    found = [p for p in net.parameters() if p.dim() > 1]
    for mine, matrix in zip(found, matrices, strict=True):
        torch.testing.assert_close(mine.flatten(1), matrix, rtol=0, atol=1e-2 * 0.02 if channels_last else 0)
    for mine, its in zip([p for p in net.parameters() if p.dim() <= 1], rest, strict=True):
        assert torch.equal(mine, its)


@pytest.mark.parametrize("shape", [(1, 1), (10, 64), (64, 10), (64, 576)])
def test_gram_iteration_equals_iteration_on_the_matrix(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    # Singular values over six decades, like those of gradients.
    x = torch.randn(shape) @ torch.diag(torch.logspace(0, -6, shape[1]))
    a, b, c = 3.4445, -4.775, 2.0315
    expected = x.double() / x.double().norm()
    for _ in range(5):
        gram = expected @ expected.t()
        expected = a * expected + (b * gram + c * gram @ gram) @ expected
    torch.testing.assert_close(orthogonalise(x).double(), expected, rtol=0, atol=1e-3)


def test_muon_refuses_what_torchs_muon_refuses() -> None:
    table = nn.Embedding(4, 3, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="dense"):
        Muon(table.parameters()).step()
    weight = nn.Parameter(torch.ones(2, 3, dtype=torch.complex64))
    weight.grad = torch.ones_like(weight)
    with pytest.raises(RuntimeError, match="real"):
        Muon([weight]).step()


def test_subnormal_gradients_become_zero() -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 20)
    x[::2] *= 1e-20
    found = orthogonalise(x)
    assert not found[::2].any(), "subnormal products, which are slow"
    torch.testing.assert_close(found[1::2], orthogonalise(x[1::2]))


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 5), (2, 3, 2, 3, 4), (4, 3, 1, 1)])
@pytest.mark.parametrize("last", [False, True])
def test_weights_of_any_memory_format(shape: tuple[int, ...], last: bool) -> None:
    weight = torch.randn(shape)
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    layer = nn.Parameter(weight.clone())
    if last and len(shape) in formats:
        layer = nn.Parameter(layer.detach().to(memory_format=formats[len(shape)]))
    plain = nn.Parameter(weight.clone())
    gradient = torch.randn(shape)
    for parameter in (layer, plain):
        parameter.grad = gradient.clone()
        Muon([parameter], lr=0.1).step()
    assert not torch.equal(layer, weight)
    torch.testing.assert_close(layer, plain, rtol=0, atol=2e-3)


def test_muon_skips_parameters_without_gradient() -> None:
    net = layers()
    optimizer = Muon(parameter_groups(net), **RATES)
    before = copy.deepcopy(net.state_dict())
    optimizer.step()
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())

    def closure() -> float:
        assert torch.is_grad_enabled()
        with_gradients(net, 0)
        return 3.0

    assert optimizer.step(closure) == 3.0
    assert not torch.equal(net[0].weight, before["0.weight"])


def test_weight_decay_and_muon_apply_to_weights_of_layers() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), PSN(4), PLIF(), nn.Flatten(), nn.Linear(3, 2))
    net[5].bias.requires_grad_(False)
    weights, others = parameter_groups(net)
    assert {id(p) for p in weights["params"]} == {id(net[0].weight), id(net[5].weight)}
    expected = (net[0].bias, *(p for module in net[1:4] for p in module.parameters()))
    assert {id(p) for p in others["params"]} == {id(p) for p in expected}
    assert "weight_decay" not in weights
    assert "weight_decay" not in parameter_groups(net, decay_all=True)[1]
    assert len(parameter_groups(nn.Linear(2, 2, bias=False))) == 1
    # With gradients of 0 one group shrinks and the other stays.
    for name in ("adamw", "muon"):
        optimizer = components.optimizer.make(name, lr=0.1, weight_decay=0.5).build(params=parameter_groups(net))
        before = {id(p): p.detach().clone() for p in net.parameters()}
        for parameter in net.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        torch.testing.assert_close(net[0].weight.detach(), 0.95 * before[id(net[0].weight)])
        for parameter in others["params"]:
            assert torch.equal(parameter, before[id(parameter)])
    assert "exp_avg" in optimizer.state[net[2].weight], "Muon orthogonalised the weights of a neuron"


def test_norms_over_several_axes_are_no_weights() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.LayerNorm([4, 2, 2]), nn.RMSNorm([2, 2]))
    weights, others = ({id(p) for p in group["params"]} for group in parameter_groups(net))
    assert weights == {id(net[0].weight)}
    assert {id(net[1].weight), id(net[1].bias), id(net[2].weight)} <= others


def test_matrices_of_third_party_neurons_are_no_weights() -> None:
    psn, leaky = neuron.PSN(T=4), snntorch.Leaky(torch.rand(3, 4), learn_beta=True)
    recurrent, cell = snntorch.RLeaky(0.9, linear_features=3), norse.LIFRecurrentCell(3, 3)
    net = nn.Sequential(nn.Linear(3, 3), psn, leaky, recurrent, cell)
    weights, others = ({id(p) for p in group["params"]} for group in parameter_groups(net))
    assert {id(psn.weight), id(psn.bias), id(leaky.beta)} <= others
    # A recurrent neuron holds weights of connections, too.
    connections = (net[0].weight, recurrent.recurrent.weight, cell.input_weights, cell.recurrent_weights)
    assert weights == {id(weight) for weight in connections}


TORCHS = [
    name for name, one in components.optimizer.components.items() if one.definition.__module__.startswith("torch.")
]


@pytest.mark.parametrize("name", TORCHS)
def test_torchs_optimizers_take_a_step(name: str) -> None:
    net = layers()
    before = net[0].weight.detach().clone()
    optimizer = components.optimizer.make(name).build(params=parameter_groups(net))
    assert type(optimizer).__name__.lower() == name
    with_gradients(net, 0)
    optimizer.step()
    assert not torch.equal(net[0].weight, before)


TOTAL = 20


def curve(name: str, warmup: float = 0.0, **options: Any) -> list[float]:
    """Return the learning rate of each of ``TOTAL`` steps, and after the last."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=2.0)
    made = make_lr_scheduler(components.lr_schedule.make(name, **options), optimizer, TOTAL, warmup)
    rates = []
    for _ in range(TOTAL):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        made.step()
    return [*rates, optimizer.param_groups[0]["lr"]]


def half_cosine(share: float, low: float = 0.0) -> float:
    return low + (1 - low) * (1 + math.cos(math.pi * share)) / 2


CURVES: list[tuple[str, dict[str, Any], Callable[[float], float]]] = [
    ("constant", {}, lambda share: 1.0),
    ("cosine", {}, half_cosine),
    ("cosine", {"minimum": 0.1}, lambda share: half_cosine(share, 0.1)),
    ("linear", {}, lambda share: 1 - share),
    ("linear", {"minimum": 0.25}, lambda share: 1 - 0.75 * share),
    ("multistep", {"milestones": (0.25, 0.5), "gamma": 0.5}, lambda share: 0.5 ** ((share >= 0.25) + (share >= 0.5))),
]


@pytest.mark.parametrize(("name", "options", "expected"), CURVES)
@pytest.mark.parametrize("first", [0, 4])
def test_schedules_follow_their_formula(
    name: str, options: dict[str, Any], expected: Callable[[float], float], first: int
) -> None:
    found = curve(name, first / TOTAL, **options)
    rise = [2.0 * (step + 1) / (first + 1) for step in range(first)]
    assert found[:first] == pytest.approx(rise)
    rest = [2.0 * expected(step / (TOTAL - first)) for step in range(TOTAL - first + 1)]
    assert found[first:] == pytest.approx(rest, abs=1e-6)


def test_one_cycle_rises_and_falls() -> None:
    found = curve("onecycle", pct_start=0.25, div_factor=10.0, final_div_factor=100.0)
    assert found[0] == pytest.approx(0.2)
    assert max(found) == found[4] == pytest.approx(2.0)
    assert found[TOTAL - 1] == pytest.approx(0.002)


def test_one_cycle_may_rise_in_a_single_step() -> None:
    found = curve("onecycle", pct_start=1 / TOTAL, div_factor=10.0)
    assert found[0] == pytest.approx(0.1 * max(found), rel=0.01)
    assert found[1] == max(found)


def test_one_cycle_after_a_warm_up() -> None:
    found = curve("onecycle", 0.2, pct_start=0.25, div_factor=10.0)
    assert max(found) == pytest.approx(2.0)
    assert found[:5] == pytest.approx([0.04, 0.08, 0.12, 0.16, 0.2])
    assert found[5] > found[4]


@pytest.mark.parametrize("name", list(components.lr_schedule))
@pytest.mark.parametrize("total", [1, 2, 3])
def test_schedules_of_very_short_runs(name: str, total: int) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=2.0)
    made = make_lr_scheduler(components.lr_schedule.make(name), optimizer, total, 0.5)
    for _ in range(total):
        optimizer.step()
        made.step()
        assert 0 <= optimizer.param_groups[0]["lr"] <= 2.0
