"""Rate-based back-propagation against its formulas, computed without the library's two passes."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from shortcut_snn import TET, LogitSum, LossSum, attach, components, nets
from shortcut_snn.measurement import probe
from shortcut_snn.method.gradient import check_gradient
from shortcut_snn.neurons import LIF, PLIF, ATan, NormNeuron, Surrogate, Triangle, use_backend
from shortcut_snn.neurons.rate import RatePasses

from ..method.wrapped import wrapped


def recursion(
    current: Tensor, tau: float, threshold: float, surrogate: Surrogate, reset: str, detach_reset: bool
) -> tuple[Tensor, Tensor]:
    """Firing rate and its derivative by a constant current, forward in time as the paper's authors write it."""
    u, k = torch.zeros_like(current[0]), torch.ones_like(current[0])
    rate, slope = torch.zeros_like(u), torch.zeros_like(u)
    for step in current:
        u_pre = tau * u + step
        spike, ds = (u_pre > threshold).to(u.dtype), surrogate(u_pre - threshold)
        rate, slope = rate + spike, slope + ds * k
        if reset == "hard":
            u, through = u_pre * (1 - spike), 1 - spike - (0 if detach_reset else u_pre * ds)
        else:
            u, through = u_pre - threshold * spike, 1 - (0 if detach_reset else threshold * ds)
        k = 1 + k * tau * through
    return rate / len(current), slope / len(current)


@given(
    seed=st.integers(0, 2**31),
    steps=st.integers(1, 7),
    tau=st.floats(0.0, 1.0),
    surrogate=st.sampled_from([Triangle(), ATan()]),
    reset=st.sampled_from(["hard", "soft"]),
    detach_reset=st.booleans(),
)
def test_rate_and_slope_of_a_neuron(
    seed: int, steps: int, tau: float, surrogate: Surrogate, reset: str, detach_reset: bool
) -> None:
    current = torch.randn(steps, 3, 5, generator=torch.Generator().manual_seed(seed)) + 0.5
    neuron = LIF(tau, surrogate=surrogate, reset=reset, detach_reset=detach_reset)
    passes = RatePasses(neuron)
    with passes.spiking():
        assert torch.equal(neuron(current), LIF(tau, reset=reset)(current))
    with passes.averages():
        mean = current.mean(0, keepdim=True).requires_grad_()
        rate = neuron(mean)
        (slope,) = torch.autograd.grad(rate.sum(), mean)
    expected_rate, expected_slope = recursion(current, tau, 1.0, surrogate, reset, detach_reset)
    torch.testing.assert_close(rate[0].detach(), expected_rate)
    torch.testing.assert_close(slope[0], expected_slope, rtol=1e-4, atol=1e-5)


class Small(nn.Module):
    """Convolution, norm, neuron; the same with a residual; a readout. Over ``[T, N, C, H, W]`` or ``[N, C, H, W]``."""

    def __init__(self, momentum: float = 0.1) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.layer1 = NormNeuron(nn.BatchNorm2d(4, momentum=momentum), LIF(surrogate=ATan()))
        self.layer2 = NormNeuron(nn.BatchNorm2d(4, momentum=momentum), LIF(surrogate=ATan(), reset="soft"))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(0) if x.dim() == 4 else x
        time, batch = x.shape[:2]
        first = self.layer1(self.conv1(x.flatten(0, 1)).unflatten(0, (time, batch)))
        second = self.layer2(self.conv2(first.flatten(0, 1)).unflatten(0, (time, batch)), residual=first)
        return self.head(second.mean((-2, -1)).mean(0))


def by_formula(network: Small, x: Tensor) -> Tensor:
    """Return its logits as a graph over averages, with the gradients of the authors' code."""

    def norm(module: nn.BatchNorm2d, sequence: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        flat = sequence.flatten(0, 1)
        mean = flat.mean((0, 2, 3), keepdim=True)
        var = (flat - mean).square().mean((0, 2, 3), keepdim=True)
        weight, bias = module.weight.view(1, -1, 1, 1), module.bias.view(1, -1, 1, 1)
        normal = (flat - mean) / (var + module.eps).sqrt() * weight + bias
        own = rate.mean((0, 2, 3), keepdim=True)
        own = mean + (own - own.detach())
        spread = (rate - own).square().mean((0, 2, 3), keepdim=True)
        spread = var + (spread - spread.detach())
        averaged = (rate - own) / (spread + module.eps).sqrt() * weight + bias
        return normal.detach().view_as(sequence), averaged

    def neuron(module: LIF, sequence: Tensor, averaged: Tensor) -> tuple[Tensor, Tensor]:
        rate, slope = recursion(sequence, module.decay, 1.0, module.surrogate, module.reset, module.detach_reset)
        answered = averaged * slope
        return module(sequence).detach(), rate + (answered - answered.detach())

    def conv(module: nn.Conv2d, sequence: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        return module(sequence.flatten(0, 1)).unflatten(0, sequence.shape[:2]).detach(), module(rate)

    state = x, x.mean(0)
    first = neuron(network.layer1.neuron, *norm(network.layer1.norm, *conv(network.conv1, *state)))
    hidden = norm(network.layer2.norm, *conv(network.conv2, *first))
    second = neuron(network.layer2.neuron, hidden[0] + first[0], hidden[1] + first[1])
    return network.head(second[1].mean((-2, -1)))


def gradients(network: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    network.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


@pytest.mark.parametrize("backend", ["eager", "numba"])
def test_a_network_against_the_authors_formulas(backend: str) -> None:
    network, x, labels = Small(), torch.randn(5, 6, 2, 7, 7), torch.tensor([0, 1, 2, 0, 1, 2])
    with use_backend("eager"):
        expected_logits = by_formula(network, x)
        expected = gradients(network, F.cross_entropy(expected_logits, labels))
    with use_backend(backend):
        logits = wrapped(network, [], num_classes=3, gradient="rate")(x).main
        found = gradients(network, F.cross_entropy(logits, labels))
    torch.testing.assert_close(logits, expected_logits, rtol=1e-5, atol=1e-5)
    for name, gradient in expected.items():
        assert gradient.abs().max() > 1e-4, name
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def network(name: str, **options: Any) -> nets.SpikingNetwork:
    sizes = {"num_classes": 3, "time_steps": 4, "width": 4, "in_channels": 2}
    return getattr(nets, f"spiking_{name}")(**sizes | {"make_neuron": lambda: LIF(surrogate=ATan())} | options)


NETWORKS = [
    ("resnet8", {"block": "ms", "stem": "large"}),
    ("resnet8", {"block": "sew", "norm": "tdbn"}),
    ("vgg11", {}),
]


@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_with_one_time_step_it_is_ordinary_back_propagation(name: str, options: dict[str, Any]) -> None:
    net = network(name, time_steps=1, **options)
    twin = copy.deepcopy(net)
    x, labels = torch.randn(4, 2, 16, 16), torch.tensor([0, 1, 2, 0])
    ours = gradients(net, F.cross_entropy(wrapped(net, [], num_classes=3, gradient="rate")(x).main, labels))
    expected = gradients(twin, F.cross_entropy(twin(x), labels))
    for key, gradient in expected.items():
        torch.testing.assert_close(ours[key], gradient, rtol=2e-2, atol=2e-4 * float(gradient.abs().max()), msg=key)
    for key, buffer in twin.named_buffers():
        torch.testing.assert_close(net.get_buffer(key), buffer)


@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_built_in_networks(name: str, options: dict[str, Any]) -> None:
    net = network(name, **options)
    keys, twin = list(net.state_dict()), copy.deepcopy(net)
    x = torch.randn(4, 2, 16, 16) if options else torch.randn(4, 4, 2, 16, 16)
    model = wrapped(net, [], num_classes=3, gradient="rate")
    logits = model(x).main
    if name != "vgg11":
        torch.testing.assert_close(logits, twin(x), rtol=1e-4, atol=1e-5)
    logits.sum().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    twin(x)
    assert list(net.state_dict()) == keys
    assert not any("forward" in vars(module) for module in net.modules())
    assert net.time_steps == 4
    model.eval()
    assert torch.equal(model(x).main, model.strip()(x))


def saved_bytes(net: nn.Module, x: Tensor) -> int:
    """Return the bytes that the forward pass of a network keeps for the backward pass."""
    total = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal total
        total += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        net(x)
    return total


def test_the_graph_does_not_grow_with_time() -> None:
    averages, whole = [], []
    for steps in (2, 8):
        net, x = network("resnet8", time_steps=steps), torch.randn(steps, 2, 2, 16, 16)
        passes = RatePasses(net)
        # Plain PyTorch keeps numbers; the hooks that keep spikes as bits would hide them from this test's.
        with use_backend("eager"):
            with passes.spiking():
                net(x)
            with passes.averages():
                averages.append(saved_bytes(net, x.mean(0)))
            whole.append(saved_bytes(net, x))
    assert averages[0] == averages[1]
    assert whole[1] > 2 * averages[1]


def test_branches_read_averages() -> None:
    net, x, labels = network("resnet8"), torch.randn(4, 4, 2, 16, 16), torch.tensor([0, 1, 2, 0])
    model = wrapped(net, "stages", num_classes=3, gradient="rate")
    output = model(x)
    plain = wrapped(copy.deepcopy(net), "stages", num_classes=3)
    plain.branches.load_state_dict(model.branches.state_dict())
    for ours, theirs in zip(output.branches, plain(x).branches, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    F.cross_entropy(output.branches[0], labels).backward()
    assert net.stem.conv.weight.grad.abs().max() > 0
    assert net.layer2[0].conv1.weight.grad is None, "after the tap"


def test_hooks_on_neurons_still_fire() -> None:
    net = network("resnet8")
    model, x = wrapped(net, [], num_classes=3, gradient="rate"), torch.randn(4, 4, 2, 16, 16)
    with probe(net, membrane=False) as found:
        model(x)
    twin = copy.deepcopy(net)
    with probe(twin, membrane=False) as expected:
        twin(x)
    assert found.keys() == expected.keys()
    for name, tally in expected.items():
        assert found[name].rate == pytest.approx(tally.rate, rel=1e-3, abs=1e-3)


def test_a_failed_pass_restores_the_network() -> None:
    net = network("resnet8")
    model = wrapped(net, [], num_classes=3, gradient="rate")
    with pytest.raises(ValueError, match="channels"):
        model(torch.randn(4, 4, 3, 16, 16))
    assert not any("forward" in vars(module) for module in net.modules())
    assert torch.is_grad_enabled()
    assert net.time_steps == 4


def test_frozen_norms_stay_frozen() -> None:
    net, x, labels = Small(), torch.randn(1, 6, 2, 7, 7), torch.tensor([0, 1, 2, 0, 1, 2])
    model = wrapped(net, [], num_classes=3, gradient="rate")
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    before = {key: buffer.clone() for key, buffer in net.named_buffers()}
    ours = gradients(net, F.cross_entropy(model(x).main, labels))
    expected = gradients(net, F.cross_entropy(net(x), labels))
    assert all(torch.equal(buffer, before[key]) for key, buffer in net.named_buffers())
    for key, gradient in expected.items():
        torch.testing.assert_close(ours[key], gradient, rtol=1e-4, atol=1e-6)


def test_a_custom_neuron_has_its_own_gradient() -> None:
    class Doubled(LIF):
        def forward(self, current: Tensor) -> Tensor:
            return super().forward(2 * current)

    current, neuron = torch.randn(5, 3, 4) + 0.3, Doubled(surrogate=ATan())
    passes = RatePasses(neuron)
    with passes.spiking():
        neuron(current)
    with passes.averages():
        mean = current.mean(0, keepdim=True).requires_grad_()
        (slope,) = torch.autograd.grad(neuron(mean).sum(), mean)
    _, expected = recursion(2 * current, 0.5, 1.0, ATan(), "hard", False)
    torch.testing.assert_close(slope[0], 2 * expected, rtol=1e-4, atol=1e-5)


def test_unsupported_networks_are_refused() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = LIF()

        def forward(self, x: Tensor) -> Tensor:
            return self.neuron(self.neuron(x))

    class Shared(nn.BatchNorm1d):
        pass

    for net, keyword in ((Twice(), "LIF is called twice"), (nn.Sequential(Shared(3), LIF()), "Shared")):
        with pytest.raises(ValueError, match=keyword), RatePasses(net).spiking():
            net(torch.randn(4, 3))


@pytest.mark.parametrize("shape", [(4, 6, 20), (4, 6, 3, 5, 4)], ids=str)
def test_sequences_of_any_number_of_axes_are_averaged_over_time(shape: tuple[int, ...]) -> None:
    network = nn.Sequential(nn.Linear(shape[-1], 8), LIF(), nn.Linear(8, 8), LIF(), nn.Flatten(2), nn.LazyLinear(3))
    x, labels = 9 * torch.rand(shape), torch.arange(6) % 3
    network(x)
    model = attach(network, method="rate", example=x, labels=labels)
    output = model(x)
    model.loss(output, labels, 0, 1).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.network.parameters())
    assert network[0].weight.grad.any()
    torch.testing.assert_close(output.main, model.eval()(x).main)


@pytest.mark.parametrize("name", ["bptt", "sltt", "rate"])
def test_mechanisms_are_components_and_wrap_a_network(name: str) -> None:
    net = network("resnet8")
    model = wrapped(net, "stages", num_classes=3, head="conv", gradient=name)
    assert model.network is net
    assert {module.detach_membrane for module in net.modules() if isinstance(module, LIF)} == {name == "sltt"}
    LossSum()(model(torch.randn(4, 2, 16, 16)), torch.tensor([0, 1, 2, 0]), 0.5).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_unsupported_combinations_are_refused() -> None:
    with pytest.raises(ValueError, match="gradient sltt needs neurons of shortcut_snn"):
        wrapped(nn.Sequential(nn.Linear(2, 2)), [], num_classes=2, gradient="sltt")
    with pytest.raises(ValueError, match="gradient rate has no logits of single time steps, which tet needs"):
        check_gradient(components.gradient.make("rate"), TET())
    with pytest.raises(ValueError, match=r"initialise.*rate"):
        check_gradient(components.gradient.make("rate"), LogitSum(), initialise=True)
    for gradient in (components.gradient.make("bptt"), components.gradient.make("sltt")):
        check_gradient(gradient, TET(), initialise=True)
    check_gradient(components.gradient.make("rate"), LossSum())
    with pytest.raises(ValueError, match="learned decay"):
        wrapped(network("resnet8", make_neuron=PLIF), [], num_classes=3, gradient="rate")
