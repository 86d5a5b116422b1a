"""Spatial learning through time: the kernels against autograd with a detached membrane, and SpikingJelly."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import neuron as sj
from spikingjelly.activation_based import surrogate as sj_surrogate
from torch import Tensor, nn

from shortcut_snn.neurons import LIF, PLIF, ATan, NormNeuron, Surrogate, use_backend
from shortcut_snn.neurons.packing import bits_of

from .every_neuron import currents, is_active
from .reference import Spike

pytestmark = pytest.mark.usefixtures("kernels")

BACKENDS = ("eager", "numba")


def detached(current: Tensor, decay: float | Tensor, threshold: float, surrogate: Surrogate, reset: str) -> Tensor:
    """The paper's gradient by autograd: u[t - 1] enters step t as a constant."""
    u, spikes = torch.zeros_like(current[0]), []
    for step in current:
        u_pre = decay * u.detach() + step
        s = Spike.apply(u_pre - threshold, surrogate)
        spikes.append(s)
        u = u_pre * (1 - s) if reset == "hard" else u_pre - threshold * s
    return torch.stack(spikes)


@pytest.mark.parametrize("backend", BACKENDS)
@given(
    seed=st.integers(0, 2**31),
    shape=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    decay=st.floats(0.0, 1.0),
    threshold=st.floats(0.3, 2.0),
    reset=st.sampled_from(["hard", "soft"]),
)
@settings(max_examples=10)
def test_equals_autograd_with_a_detached_membrane(
    backend: str, seed: int, shape: list[int], decay: float, threshold: float, reset: str
) -> None:
    current, weight, surrogate = currents(*shape, seed=seed) + 0.5, currents(*shape, seed=seed + 1), ATan()
    gradients = []
    with use_backend(backend):
        layer = LIF(decay, threshold, surrogate=surrogate, reset=reset, detach_membrane=True)
        for run in (layer, lambda x: detached(x, decay, threshold, surrogate, reset)):
            x = current.clone().requires_grad_()
            spikes = run(x)
            gradients.append((spikes, *torch.autograd.grad((spikes * weight).sum(), x)))
    assume(is_active(*gradients[1]))
    assert torch.equal(gradients[0][0], gradients[1][0])
    torch.testing.assert_close(gradients[0][1], gradients[1][1], rtol=1e-5, atol=1e-6)


def test_gradients_equal_spikingjelly() -> None:
    theirs = sj.SLTTLIFNode(tau=2.0, decay_input=False, v_reset=0.0, surrogate_function=sj_surrogate.ATan())
    current, weight = torch.randn(5, 3, 7) + 0.4, torch.randn(5, 3, 7)
    first, second = current.clone().requires_grad_(), current.clone().requires_grad_()
    expected = torch.stack([theirs(step) for step in first])
    spikes = LIF(0.5, surrogate=ATan(), detach_membrane=True)(second)
    assert torch.equal(spikes, expected)
    (expected * weight).sum().backward()
    (spikes * weight).sum().backward()
    assert is_active(expected, first.grad)
    torch.testing.assert_close(second.grad, first.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_learned_decay_gets_gradients_of_every_step(backend: str) -> None:
    current, weight = torch.randn(5, 3, 4) + 0.4, torch.randn(5, 3, 4)
    layer = PLIF(surrogate=ATan(), detach_membrane=True)
    with use_backend(backend):
        (layer(current) * weight).sum().backward()
    w = layer.w.detach().clone().requires_grad_()
    (detached(current, torch.sigmoid(w), 1.0, ATan(), "hard") * weight).sum().backward()
    assert w.grad.abs() > 1e-3
    torch.testing.assert_close(layer.w.grad, w.grad, rtol=1e-4, atol=1e-6)


def test_after_a_norm() -> None:
    x, residual = torch.randn(4, 2, 3, 5, 5), (torch.rand(4, 2, 3, 5, 5) > 0.5).float()
    weight, layer, norm = torch.randn(x.shape), LIF(surrogate=ATan(), detach_membrane=True), nn.BatchNorm2d(3)
    fused = NormNeuron(nn.BatchNorm2d(3), layer)
    first, second = x.clone().requires_grad_(), x.clone().requires_grad_()
    spikes = fused(first, residual)
    assert bits_of(spikes) is not None
    expected = detached(norm(second.flatten(0, 1)).view_as(x) + residual, 0.5, 1.0, ATan(), "hard")
    (spikes * weight).sum().backward()
    (expected * weight).sum().backward()
    results = [
        (fired, leaf.grad, module.weight.grad, module.bias.grad, module.running_var)
        for fired, leaf, module in ((spikes, first, fused.norm), (expected, second, norm))
    ]
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_the_membrane_has_no_gradient() -> None:
    current = torch.randn(6, 3, 5, requires_grad=True)
    for backend in BACKENDS:
        with use_backend(backend):
            assert not LIF(detach_membrane=True).stream(current)[1].requires_grad
