"""Plain PyTorch against the paper's loop: values, gradients, streaming, and refused inputs."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from shortcut_snn.neurons import LIF, ATan, Neuron, Rectangle, Sigmoid, Surrogate, Tanh, Triangle

from .reference import unrolled

RESETS = ["hard", "soft"]
seeds = st.integers(0, 2**31)


class LearnedDecay(Neuron):
    """A LIF neuron whose decay is a parameter."""

    def __init__(self, decay: Tensor, **options: object) -> None:
        super().__init__(**options)
        self.decay = nn.Parameter(decay)


@given(
    surrogate=st.sampled_from([Rectangle(4.0), Triangle(0.5, 2.0), Tanh(), ATan(), Sigmoid()]),
    reset=st.sampled_from(RESETS),
    detach_reset=st.booleans(),
    decay=st.floats(0.0, 1.0),
    threshold=st.floats(0.2, 3.0),
    steps=st.integers(1, 8),
    seed=seeds,
)
def test_values_and_gradients_equal_the_unrolled_loop(
    surrogate: Surrogate, reset: str, detach_reset: bool, decay: float, threshold: float, steps: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    current, initial = (2 * random(steps, 2, 3)).requires_grad_(), random(2, 3).requires_grad_()
    weights = random(steps, 2, 3), random(2, 3)
    neuron = LearnedDecay(
        torch.tensor(decay, dtype=torch.float64),
        threshold=threshold, surrogate=surrogate, reset=reset, detach_reset=detach_reset,
    )  # fmt: skip
    leaves = [current, neuron.decay, initial]
    got = neuron.stream(current, initial)
    want = unrolled(current, neuron.decay, threshold, surrogate, reset, detach_reset, initial)
    assert torch.equal(got[0], want[0])
    torch.testing.assert_close(got[1], want[1], rtol=1e-12, atol=1e-12)
    gradients, expected = (
        torch.autograd.grad(sum((out * weight).sum() for out, weight in zip(outs, weights, strict=True)), leaves)
        for outs in (got, want)
    )
    torch.testing.assert_close(gradients, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("reset", RESETS)
def test_gradient_equals_the_numerical_one_away_from_thresholds(reset: str) -> None:
    # The surrogate is 0 at every membrane potential visited, so the backward pass claims to be exact.
    current = torch.tensor([[[0.3, 1.7, -0.5]], [[0.3, 0.2, 0.9]], [[2.0, 0.4, 0.3]]], dtype=torch.float64)
    initial = torch.tensor([[0.2, 0.1, -0.3]], dtype=torch.float64)
    neuron = LIF(0.6, surrogate=Rectangle(0.02), reset=reset)
    assert neuron.stream(current, initial)[0].sum() >= 2
    inputs = [current.requires_grad_(), initial.requires_grad_()]
    assert torch.autograd.gradcheck(lambda *args: neuron.stream(*args)[1], inputs, eps=1e-6, atol=1e-8)


@pytest.mark.parametrize("reset", RESETS)
def test_streaming_in_chunks_equals_the_whole_sequence(reset: str) -> None:
    neuron = LIF(0.7, reset=reset, surrogate=ATan())
    current = (2 * torch.randn(9, 2, 5, dtype=torch.float64)).requires_grad_()
    whole, final = neuron.stream(current)
    membrane, chunks = None, []
    for start, stop in itertools.pairwise([0, 1, 4, 9]):
        spikes, membrane = neuron.stream(current[start:stop], membrane)
        chunks.append(spikes)
    assert torch.equal(torch.cat(chunks), whole)
    assert torch.equal(membrane, final)
    gradients = [torch.autograd.grad(out.cumsum(0).sum(), current)[0] for out in (torch.cat(chunks), whole)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_integrated_in_float32(dtype: torch.dtype) -> None:
    current = (torch.randn(8, 4, 16) * 2).to(dtype).requires_grad_()
    full = current.detach().float().requires_grad_()
    weight = torch.randn(8, 4, 16).to(dtype)
    neuron = LIF(0.9, surrogate=ATan())
    spikes, final = neuron.stream(current)
    expected, expected_final = neuron.stream(full)
    (spikes * weight).sum().backward()
    (expected * weight.float()).sum().backward()
    assert spikes.dtype == current.grad.dtype == dtype
    assert torch.equal(spikes.float(), expected)
    assert torch.equal(final, expected_final)
    torch.testing.assert_close(current.grad, full.grad.to(dtype))


@pytest.mark.parametrize(
    ("current", "initial", "keyword"),
    [
        (torch.zeros(0, 2, 3), None, "time step"),
        (torch.zeros(3), None, r"\(3,\)"),
        (torch.zeros(2, 3, dtype=torch.long), None, "floating-point"),
        (torch.zeros(2, 3), torch.zeros(3, device="meta"), "initial is on meta"),
        (torch.zeros(2, 3), torch.zeros(2, 3), r"initial .*\(3,\)"),
    ],
)
def test_bad_inputs_are_refused_by_name(current: Tensor, initial: Tensor | None, keyword: str) -> None:
    with pytest.raises(ValueError, match=keyword):
        LIF().stream(current, initial)
