"""Spatial learning through time: against autograd with a detached membrane, and against SpikingJelly."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from spikingjelly.activation_based import neuron as sj
from spikingjelly.activation_based import surrogate as sj_surrogate
from torch import Tensor, nn

from shortcut_snn.neurons import LIF, PLIF, ATan, NormNeuron, Rectangle, Surrogate, Triangle, bits_of, use_backend

from .reference import Spike

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
    surrogate=st.sampled_from([Rectangle(), Triangle(), ATan()]),
    reset=st.sampled_from(["hard", "soft"]),
)
def test_equals_autograd_with_a_detached_membrane(
    backend: str, seed: int, shape: list[int], decay: float, threshold: float, surrogate: Surrogate, reset: str
) -> None:
    generator = torch.Generator().manual_seed(seed)
    current, weight = torch.randn(shape, generator=generator) + 0.5, torch.randn(shape, generator=generator)
    gradients = []
    with use_backend(backend):
        layer = LIF(decay, threshold, surrogate, reset, detach_membrane=True)
        for run in (layer, lambda x: detached(x, decay, threshold, surrogate, reset)):
            x = current.clone().requires_grad_()
            spikes = run(x)
            gradients.append((spikes, *torch.autograd.grad((spikes * weight).sum(), x)))
    assert torch.equal(gradients[0][0], gradients[1][0])
    torch.testing.assert_close(gradients[0][1], gradients[1][1], rtol=1e-5, atol=1e-6)
    # Each step's gradient is multiplied by its own surrogate only.
    assert gradients[0][1].abs().max() <= weight.abs().max() * surrogate(torch.zeros(1)).item() * (1 + 1e-5)


@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_gradients_equal_spikingjelly(reset: str) -> None:
    theirs = sj.SLTTLIFNode(
        tau=2.0,
        decay_input=False,
        v_reset=0.0 if reset == "hard" else None,
        surrogate_function=sj_surrogate.ATan(),
    )
    current, weight = torch.randn(5, 3, 7) + 0.4, torch.randn(5, 3, 7)
    first, second = current.clone().requires_grad_(), current.clone().requires_grad_()
    expected = torch.stack([theirs(step) for step in first])
    spikes = LIF(0.5, surrogate=ATan(), reset=reset, detach_membrane=True)(second)
    assert torch.equal(spikes, expected)
    (expected * weight).sum().backward()
    (spikes * weight).sum().backward()
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


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels_last", [False, True])
def test_after_a_norm(backend: str, channels_last: bool) -> None:
    x, residual = torch.randn(4, 2, 3, 5, 5), (torch.rand(4, 2, 3, 5, 5) > 0.5).float()
    if channels_last:
        x, residual = (y.flatten(0, 1).to(memory_format=torch.channels_last).view_as(y) for y in (x, residual))
    weight = torch.randn(x.shape)
    results = []
    with use_backend(backend):
        for layer in (
            NormNeuron(nn.BatchNorm2d(3), LIF(surrogate=ATan(), detach_membrane=True)),
            nn.BatchNorm2d(3),
        ):
            leaf = x.clone().requires_grad_()
            if isinstance(layer, NormNeuron):
                spikes, norm = layer(leaf, residual), layer.norm
                assert spikes.stride() == x.stride()
                assert (bits_of(spikes) is not None) == (backend == "numba")
            else:
                current = layer(leaf.flatten(0, 1)).view_as(leaf) + residual
                spikes, norm = detached(current, 0.5, 1.0, ATan(), "hard"), layer
            (spikes * weight).sum().backward()
            results.append((spikes, leaf.grad, norm.weight.grad, norm.bias.grad, norm.running_var))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_number_is_saved_for_each_spike(backend: str) -> None:
    saved: list[Tensor] = []
    current = torch.randn(6, 3, 5, requires_grad=True)
    with use_backend(backend), torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        spikes, membrane = LIF(detach_membrane=True).stream(current)
    assert [tensor.shape for tensor in saved] == [spikes.shape]
    assert not membrane.requires_grad
    # The kernels save their input alone, which they recompute from.
    assert (saved[0].data_ptr() == current.data_ptr()) == (backend == "numba")
