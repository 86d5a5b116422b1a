"""The neuron as a function: against the unrolled reference, against itself in pieces, and what it refuses."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from shortcut_snn.neurons import ATan, Rectangle, Sigmoid, Surrogate, Tanh, Triangle
from shortcut_snn.neurons.functional import lif

from .reference import unrolled

SURROGATES = [Rectangle(), Rectangle(4.0), Triangle(), Triangle(0.5, 2.0), Tanh(), ATan(), Sigmoid()]
RESETS = ["hard", "soft"]
decays = st.floats(0.0, 1.0)
thresholds = st.floats(0.2, 3.0)
seeds = st.integers(0, 2**31)


def weighted(outputs: tuple[Tensor, Tensor], weights: tuple[Tensor, Tensor]) -> Tensor:
    """A loss in which every spike and every final membrane potential counts differently."""
    return sum((output * weight).sum() for output, weight in zip(outputs, weights, strict=True))


@pytest.mark.parametrize("detach_reset", [False, True], ids=["attached", "detached"])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("surrogate", SURROGATES, ids=str)
@given(decay=decays, threshold=thresholds, seed=seeds)
@settings(max_examples=8)
def test_values_and_gradients_equal_the_unrolled_reference(
    surrogate: Surrogate, reset: str, detach_reset: bool, decay: float, threshold: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    for steps in range(1, 9):
        values = (2 * random(steps, 2, 3), torch.tensor(decay, dtype=torch.float64), random(2, 3))
        weights = (random(steps, 2, 3), random(2, 3))
        ours = [value.clone().requires_grad_() for value in values]
        theirs = [value.clone().requires_grad_() for value in values]

        got = lif(
            ours[0],
            ours[1],
            threshold=threshold,
            surrogate=surrogate,
            reset=reset,
            detach_reset=detach_reset,
            initial=ours[2],
        )
        want = unrolled(theirs[0], theirs[1], threshold, surrogate, reset, detach_reset, theirs[2])

        assert torch.equal(got[0], want[0])
        torch.testing.assert_close(got[1], want[1], rtol=1e-12, atol=1e-12)
        gradients = torch.autograd.grad(weighted(got, weights), ours)
        expected = torch.autograd.grad(weighted(want, weights), theirs)
        for name, gradient, reference in zip(("current", "decay", "initial"), gradients, expected, strict=True):
            torch.testing.assert_close(
                gradient, reference, rtol=1e-6, atol=1e-9, msg=lambda m, n=name, t=steps: f"{n}, T = {t}: {m}"
            )


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("loss_on", ["spikes", "final"])
def test_a_loss_on_one_output_alone_gives_the_reference_gradient(reset: str, loss_on: str) -> None:
    current = torch.randn(5, 3, 4, dtype=torch.float64).mul(2).requires_grad_()
    decay = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    which = ["spikes", "final"].index(loss_on)
    weight = torch.randn(current.shape if which == 0 else current.shape[1:], dtype=torch.float64)

    got = lif(current, decay, surrogate=ATan(), reset=reset)[which]
    want = unrolled(current, decay, 1.0, ATan(), reset, False)[which]

    gradients = torch.autograd.grad((got * weight).sum(), [current, decay])
    expected = torch.autograd.grad((want * weight).sum(), [current, decay])
    torch.testing.assert_close(gradients, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("reset", RESETS)
def test_far_from_the_threshold_the_gradient_is_the_numerical_one(reset: str) -> None:
    # With a surrogate of 0 at every membrane potential visited, the backward pass claims to be exact.
    current = torch.tensor([[[0.3, 1.7, -0.5]], [[0.3, 0.2, 0.9]], [[2.0, 0.4, 0.3]]], dtype=torch.float64)
    initial = torch.tensor([[0.2, 0.1, -0.3]], dtype=torch.float64)
    decay = torch.tensor(0.6, dtype=torch.float64)
    assert lif(current, decay, initial=initial, reset=reset)[0].sum() >= 2

    def final(current: Tensor, decay: Tensor, initial: Tensor) -> Tensor:
        return lif(current, decay, surrogate=Rectangle(0.02), reset=reset, initial=initial)[1]

    inputs = [value.requires_grad_() for value in (current, decay, initial)]
    assert torch.autograd.gradcheck(final, inputs, eps=1e-6, atol=1e-8)


@given(decay=decays, seed=seeds, cuts=st.sets(st.integers(1, 8)), reset=st.sampled_from(RESETS))
def test_a_stream_in_chunks_equals_the_whole_sequence(decay: float, seed: int, cuts: set[int], reset: str) -> None:
    current = torch.randn(9, 2, 5, generator=torch.Generator().manual_seed(seed)) * 2
    whole, final = lif(current, decay, reset=reset)

    membrane, chunks = None, []
    for start, stop in itertools.pairwise([0, *sorted(cuts), 9]):
        spikes, membrane = lif(current[start:stop], decay, reset=reset, initial=membrane)
        chunks.append(spikes)

    assert torch.equal(torch.cat(chunks), whole)
    assert membrane is not None
    assert torch.equal(membrane, final)


def test_the_gradient_flows_through_a_streamed_membrane() -> None:
    current = torch.randn(6, 2, 3, dtype=torch.float64).mul(2).requires_grad_()
    weight = torch.randn(6, 2, 3, dtype=torch.float64)
    whole = torch.autograd.grad((lif(current, surrogate=ATan())[0] * weight).sum(), current)[0]

    first, membrane = lif(current[:2], surrogate=ATan())
    second, _ = lif(current[2:], surrogate=ATan(), initial=membrane)
    pieces = torch.autograd.grad((torch.cat([first, second]) * weight).sum(), current)[0]

    torch.testing.assert_close(pieces, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reset", RESETS)
def test_half_precision_comes_back_in_its_dtype_and_is_integrated_in_float32(dtype: torch.dtype, reset: str) -> None:
    current = (torch.randn(8, 4, 16) * 2).to(dtype).requires_grad_()
    full = current.detach().float().requires_grad_()
    weight = torch.randn(8, 4, 16).to(dtype)

    spikes, final = lif(current, 0.9, surrogate=ATan(), reset=reset)
    expected, expected_final = lif(full, 0.9, surrogate=ATan(), reset=reset)
    (spikes * weight).sum().backward()
    (expected * weight.float()).sum().backward()

    assert spikes.dtype == final.dtype == current.grad.dtype == dtype
    assert torch.equal(spikes.float(), expected)
    assert torch.equal(final, expected_final.to(dtype))
    torch.testing.assert_close(current.grad, full.grad.to(dtype))


def test_the_default_is_the_neuron_of_the_paper() -> None:
    current = torch.randn(4, 8, 8).mul(2).requires_grad_()
    weight = torch.randn(4, 8, 8)
    got = lif(current)
    want = lif(current, 0.5, threshold=1.0, surrogate=Rectangle(1.0), reset="hard", detach_reset=False)
    assert torch.equal(got[0], want[0])
    assert torch.equal(got[1], want[1])
    gradients = [torch.autograd.grad((spikes * weight).sum(), current)[0] for spikes, _ in (got, want)]
    assert torch.equal(*gradients)


def test_spikes_and_membrane_of_a_sequence_worked_out_by_hand() -> None:
    current = torch.tensor([0.8, 0.8, 0.8, 2.5, 0.0]).view(5, 1)
    # u_pre: 0.8, 1.2 (fires), 0.8, 2.9 (fires), then 0 after a hard and 0.95 after a soft reset.
    spikes, final = lif(current, 0.5)
    assert spikes.flatten().tolist() == [0, 1, 0, 1, 0]
    assert final.item() == 0
    # u_pre: 0.8, 1.2 (fires), 0.9, 2.95 (fires), 0.975.
    spikes, final = lif(current, 0.5, reset="soft")
    assert spikes.flatten().tolist() == [0, 1, 0, 1, 0]
    assert final.item() == pytest.approx(0.975)


def test_the_inputs_are_left_as_they_were() -> None:
    current, initial = torch.randn(3, 2, 2) * 2, torch.randn(2, 2)
    kept = current.clone(), initial.clone()
    lif(current, initial=initial, reset="soft")
    assert torch.equal(current, kept[0])
    assert torch.equal(initial, kept[1])


def test_a_current_that_is_expanded_over_time_is_taken() -> None:
    # A static image: one current in memory, seen at every step.
    image = torch.randn(1, 3, 4, dtype=torch.float64).requires_grad_()
    weight = torch.randn(4, 3, 4, dtype=torch.float64)
    expanded = torch.autograd.grad((lif(image.expand(4, 3, 4), surrogate=ATan())[0] * weight).sum(), image)[0]
    repeated = torch.autograd.grad((lif(image.repeat(4, 1, 1), surrogate=ATan())[0] * weight).sum(), image)[0]
    torch.testing.assert_close(expanded, repeated, rtol=1e-12, atol=1e-12)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("current", "options", "message"),
    [
        (torch.zeros(0, 2, 3), {}, r"at least 1 time step.*\(0, 2, 3\)"),
        (torch.zeros(3), {}, r"\[T, N, \.\.\.\].*\(3,\)"),
        (torch.tensor(1.0), {}, r"\[T, N, \.\.\.\].*\(\)"),
        (torch.zeros(2, 3, dtype=torch.long), {}, "floating-point current.*int64"),
        (torch.zeros(2, 3, dtype=torch.bool), {}, "floating-point current.*bool"),
        (torch.zeros(2, 3), {"decay": -0.1}, "decay.*-0.1"),
        (torch.zeros(2, 3), {"decay": 1.5}, "decay.*1.5"),
        (torch.zeros(2, 3), {"decay": NAN}, "decay.*nan"),
        (torch.zeros(2, 3), {"decay": torch.ones(3)}, r"decay.*\(3,\)"),
        (torch.zeros(2, 3), {"threshold": 0.0}, "threshold.*0.0"),
        (torch.zeros(2, 3), {"threshold": -1.0}, "threshold.*-1.0"),
        (torch.zeros(2, 3), {"threshold": NAN}, "threshold.*nan"),
        (torch.zeros(2, 3), {"threshold": INF}, "threshold.*inf"),
        (torch.zeros(2, 3), {"initial": torch.zeros(3, device="meta")}, "initial .* is on meta and the current on cpu"),
        (torch.zeros(2, 3), {"reset": "zero"}, "reset must be one of hard, soft, got 'zero'"),
        (torch.zeros(2, 3), {"initial": torch.zeros(2, 3)}, r"initial membrane.*\(3,\), got \(2, 3\)"),
        (torch.zeros(2, 3), {"initial": torch.zeros(1)}, r"initial membrane.*\(3,\), got \(1,\)"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(current: Tensor, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lif(current, **options)


@pytest.mark.parametrize("surrogate", [Rectangle(), lambda v: torch.exp(-v.square())])
def test_a_second_derivative_is_refused_and_not_wrong(surrogate: Surrogate) -> None:
    current = torch.randn(3, 4, requires_grad=True)
    spikes, _ = lif(current, surrogate=surrogate)
    (grad,) = torch.autograd.grad((spikes * current).sum(), current, create_graph=True)
    with pytest.raises(RuntimeError, match=r"differentiate twice|autograd formula"):
        grad.square().sum().backward()
