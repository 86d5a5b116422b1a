"""The neuron alone: the kernels against the loop in plain PyTorch, bit for bit where rounding is the same."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from shortcut_snn.neurons import LIF, ATan, Rectangle, Sigmoid, Surrogate, Tanh, Triangle, use_backend

from ..every_neuron import is_active
from ..test_reference import LearnedDecay
from .under_test import DEVICE, KERNELS

# Every surrogate and every reset; each pair is a kernel to compile.
KINDS = [
    (Rectangle(), "hard", False),
    (Rectangle(3.0), "soft", True),
    (Triangle(0.7, 1.3), "soft", False),
    (ATan(), "hard", True),
    (Tanh(0.5), "hard", False),
    (Sigmoid(5.0), "soft", False),
]


@given(
    seed=st.integers(0, 2**31),
    steps=st.integers(1, 8),
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    decay=st.floats(0.0, 1.0),
    threshold=st.floats(0.3, 2.0),
    kind=st.sampled_from(KINDS),
    streamed=st.booleans(),
)
def test_values_and_gradients_equal_plain_pytorch(
    seed: int,
    steps: int,
    shape: list[int],
    decay: float,
    threshold: float,
    kind: tuple[Surrogate, str, bool],
    streamed: bool,
) -> None:
    surrogate, reset, detach = kind
    generator = torch.Generator("cpu").manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device="cpu").to(DEVICE)

    neuron = LearnedDecay(
        torch.tensor(decay), threshold=threshold, surrogate=surrogate, reset=reset, detach_reset=detach
    )
    current = (2 * random(steps, *shape)).requires_grad_()
    initial = random(*shape).requires_grad_() if streamed else None
    weights = random(steps, *shape), random(*shape)
    leaves = [current, neuron.decay, *([initial] if streamed else [])]
    results = []
    for backend in (KERNELS, "eager"):
        with use_backend(backend):
            spikes, final = neuron.stream(current, initial)
            loss = (spikes * weights[0]).sum() + (final * weights[1]).sum()
            results.append((spikes, final, torch.autograd.grad(loss, leaves)))
    (spikes, final, grads), (want_spikes, want_final, want_grads) = results
    assume(is_active(want_spikes, want_grads[0]))
    # The same float32 operations in the same order.
    assert torch.equal(spikes, want_spikes)
    assert torch.equal(final, want_final)
    for gradient, reference in zip(grads, want_grads, strict=True):
        scale = reference.abs().max().clamp_min(1.0)
        torch.testing.assert_close(gradient / scale, reference / scale, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_slope_equals_the_surrogate(kind: tuple[Surrogate, str, bool]) -> None:
    surrogate, reset, detach = kind
    # The kernels of the test above.
    neuron = LearnedDecay(torch.tensor(0.5), surrogate=surrogate, reset=reset, detach_reset=detach)
    v = torch.cat([torch.linspace(-3, 3, 4001), torch.tensor([0.0, 0.5, -0.5, 1.5, 30.0, -30.0, 200.0, -200.0])])
    current = (v + 1.0).view(1, 1, -1).requires_grad_()
    with use_backend(KERNELS):
        spikes = neuron(current)
    (gradient,) = torch.autograd.grad(spikes.sum(), current)
    want = surrogate(current.detach() - 1.0)
    # Of the largest value: exp is computed to about 2 ulp.
    error = 1e-7 if isinstance(surrogate, Rectangle) else 1e-6
    torch.testing.assert_close(gradient, want, rtol=2e-6, atol=error * want.max().item())


@pytest.mark.parametrize("layout", ["expanded", "transposed", "sliced"])
def test_any_strides_are_taken(layout: str) -> None:
    base = 2 * torch.randn(4, 3, 6, 5, 4)
    current = {
        "expanded": base[:1].expand(4, 3, 6, 5, 4),
        "transposed": base.transpose(3, 4).contiguous().transpose(3, 4),
        "sliced": torch.randn(4, 3, 6, 5, 9)[..., ::2][..., :4],
    }[layout]
    weight, neuron = torch.randn(current.shape), LIF(surrogate=ATan())
    results = []
    for backend in (KERNELS, "eager"):
        x = current.detach().requires_grad_()
        with use_backend(backend):
            spikes, final = neuron.stream(x)
        results.append((spikes, final, torch.autograd.grad((spikes * weight).sum(), x)[0]))
    assert is_active(results[1][0], results[1][2])
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)


def test_inference_keeps_no_graph() -> None:
    with torch.inference_mode(), use_backend(KERNELS):
        spikes, final = LIF().stream(torch.randn(3, 2, 8) * 2)
    assert not spikes.requires_grad
    assert final.shape == (2, 8)
