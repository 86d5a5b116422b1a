"""Normalisation, residual and neuron in the kernels against the same layer in plain PyTorch."""

import copy

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from shortcut_snn.neurons import (
    IF,
    LIF,
    PLIF,
    ATan,
    Neuron,
    NormNeuron,
    Rectangle,
    Surrogate,
    Tanh,
    Triangle,
    use_backend,
)
from shortcut_snn.neurons.proof import ProvenKernels

from ..every_neuron import is_active
from .under_test import DEVICE, KERNELS, MANY
from .under_test import module as kernels

LAYOUTS = ["contiguous", "channels_last"]
# Each combination of reset and detached reset; each is kernels to compile, which a layout is not.
STEPS = [
    (ATan(3.0), "hard", False),
    (Rectangle(4.0), "hard", True),
    (Triangle(0.7, 1.5), "soft", False),
    (Tanh(0.5), "soft", True),
]
seeds = st.integers(0, 2**31)


def layer(channels: int, neuron: Neuron, norm: type[nn.Module] = nn.BatchNorm2d, **options: object) -> NormNeuron:
    """A layer whose norm is not the identity."""
    built = norm(channels, **options)
    if built.affine:
        nn.init.uniform_(built.weight, 0.5, 2.0)
        nn.init.normal_(built.bias, 0.3, 0.3)
    return NormNeuron(built, neuron)


def lay_out(x: Tensor, layout: str) -> Tensor:
    return x.movedim(2, -1).contiguous().movedim(-1, 2) if layout == "channels_last" else x


def run(
    module: NormNeuron, backend: str, x: Tensor, residual: Tensor | None, steps: int, weight: Tensor
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Spikes, gradients and state after a forward and a backward pass of a copy of the layer."""
    module = copy.deepcopy(module)
    x = x.detach().requires_grad_()
    residual = None if residual is None else residual.detach().requires_grad_()
    with use_backend(backend):
        spikes = module(x, residual, time_steps=steps)
        (spikes * weight).sum().backward()
    gradients = {"x": x.grad, **{name: p.grad for name, p in module.named_parameters()}}
    if residual is not None:
        gradients["residual"] = residual.grad
    return spikes.detach(), gradients, module.state_dict()


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the fused layers that ran: a test that compares eager with eager proves nothing."""
    calls: list[int] = []
    original = ProvenKernels._run

    def counted(self: ProvenKernels, kernel: str, arguments: tuple, *rest: object) -> object:
        # The neuron alone has no normalisation.
        if kernel == "forward" and arguments[0].affine is not None:
            calls.append(1)
        return original(self, kernel, arguments, *rest)

    monkeypatch.setattr(ProvenKernels, "_run", counted)
    return calls


def assert_equals_eager(
    module: NormNeuron, x: Tensor, residual: Tensor | None, steps: int, *, rtol: float = 1e-4, atol: float = 2e-5
) -> None:
    """Compare with float64: the reference has no rounding of its own."""
    weight = lay_out(torch.randn(steps, *x.shape[1:], dtype=torch.float64), LAYOUTS[1])
    got = run(module, KERNELS, x, residual, steps, weight.to(x.dtype))
    exact = copy.deepcopy(module).double()
    want = run(exact, "eager", x.double(), None if residual is None else residual.double(), steps, weight)
    assert is_active(want[0], *want[1].values())
    assert got[0].dtype == x.dtype
    assert got[0].shape == weight.shape
    assert torch.equal(got[0].double(), want[0])
    for name, gradient in got[1].items():
        reference = want[1][name]
        scale = reference.abs().max().clamp_min(1.0)
        torch.testing.assert_close(
            gradient.double() / scale, reference / scale, rtol=rtol, atol=atol, msg=lambda m, n=name: f"{n}: {m}"
        )
    for name, value in got[2].items():
        torch.testing.assert_close(value.double(), want[2][name].double(), rtol=1e-5, atol=1e-6)


def away_from_ties(shape: tuple[int, ...], seed: int) -> Tensor:
    """Random currents in which few potentials come within rounding of a threshold; seeds are fixed."""
    return torch.randn(*shape, generator=torch.Generator("cpu").manual_seed(seed), device="cpu").to(DEVICE)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("surrogate", "reset", "detach"), STEPS)
def test_surrogates_and_resets_equal_plain_pytorch(
    fused: list[int], surrogate: Surrogate, reset: str, detach: bool, layout: str
) -> None:
    module = layer(5, PLIF(0.6, 0.8, surrogate=surrogate, reset=reset, detach_reset=detach))
    x = lay_out(away_from_ties((3, 2, 5, 4, 3), 1), layout)
    residual = lay_out((torch.rand(3, 2, 5, 4, 3) > 0.7).float(), layout)
    assert_equals_eager(module, x, residual, 3)
    assert fused


@given(
    seed=seeds,
    steps=st.integers(1, 8),
    batch=st.integers(1, 3),
    channels=st.sampled_from([1, 2, 3, 16, 20, 64, 70, 130]),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    layout=st.sampled_from(LAYOUTS),
    static=st.booleans(),
    add=st.booleans(),
    training=st.booleans(),
    affine=st.booleans(),
)
def test_sizes_equal_plain_pytorch(
    seed: int,
    steps: int,
    batch: int,
    channels: int,
    height: int,
    width: int,
    layout: str,
    static: bool,
    add: bool,
    training: bool,
    affine: bool,
) -> None:
    shape = (1 if static else steps, batch, channels, height, width)
    # With two values or so in a channel, a tiny variance magnifies rounding beyond any tolerance.
    assume(shape[0] * batch * height * width >= 8)
    module = layer(channels, LIF(0.7, surrogate=ATan()), affine=affine).train(training)
    x = lay_out(away_from_ties(shape, seed), layout)
    residual = lay_out((torch.rand(steps, *shape[1:]) > 0.6).float(), layout) if add else None
    weight = torch.randn(steps, *shape[1:])
    got = run(module, KERNELS, x, residual, steps, weight)
    want = run(module, "eager", x, residual, steps, weight)
    assert (got[0] != want[0]).float().mean() < 0.01
    # Not where a potential is within rounding of the threshold: other spikes have other gradients.
    assume(torch.equal(got[0], want[0]) and is_active(want[0], *want[1].values()))
    for name, gradient in got[1].items():
        scale = want[1][name].abs().max().clamp_min(1.0)
        torch.testing.assert_close(gradient / scale, want[1][name] / scale, rtol=1e-4, atol=1e-4)
    for name, value in got[2].items():
        torch.testing.assert_close(value, want[2][name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("layout", "add"), [("contiguous", False), ("channels_last", True)])
def test_many_work_items_and_a_tail_equal_plain_pytorch(fused: list[int], layout: str, add: bool) -> None:
    x = lay_out(away_from_ties((2, 3, MANY, 29, 31), 7), layout)
    residual = lay_out((torch.rand(x.shape) > 0.7).float(), layout) if add else None
    # A surrogate with a support and one without; other tests compile both.
    neuron = PLIF(surrogate=Rectangle(4.0), detach_reset=True) if add else LIF(surrogate=ATan())
    assert_equals_eager(layer(MANY, neuron), x, residual, 2)
    assert fused


@pytest.mark.parametrize("add", [False, True], ids=["alone", "residual"])
def test_a_constant_current_equals_plain_pytorch(fused: list[int], add: bool) -> None:
    x = lay_out(away_from_ties((1, 3, 6, 5, 7), 3), LAYOUTS[1])
    residual = torch.rand(4, 3, 6, 5, 7) if add else None
    assert_equals_eager(layer(6, LIF(surrogate=ATan())), x, residual, 4)
    assert fused


def test_gradient_of_a_single_image_in_plain_pytorch() -> None:
    # Its strides are ambiguous, and PyTorch's batch norm takes them for another layout's.
    module = layer(2, LIF(surrogate=ATan()))
    x, weight = away_from_ties((1, 1, 2, 3, 4), 6), torch.randn(3, 1, 2, 3, 4)
    spikes, gradients, _ = run(module, "eager", lay_out(x, LAYOUTS[1]), None, 3, weight)
    want_spikes, want, _ = run(module, "eager", x, None, 3, weight)
    assert is_active(want_spikes, *want.values())
    assert torch.equal(spikes, want_spikes)
    torch.testing.assert_close(gradients, want)


def test_fully_connected_layers_equal_plain_pytorch(fused: list[int]) -> None:
    module = layer(37, LIF(0.3), nn.BatchNorm1d).eval()
    module.norm.running_mean.normal_()
    module.norm.running_var.uniform_(0.5, 2.0)
    assert_equals_eager(module, away_from_ties((4, 11, 37), 5), None, 4)
    assert fused


@pytest.mark.parametrize("options", [{"track_running_stats": False}, {"momentum": 0.3}], ids=str)
def test_options_of_the_norm_equal_plain_pytorch(fused: list[int], options: dict) -> None:
    for training in (True, False):
        assert_equals_eager(layer(4, LIF(), **options).train(training), away_from_ties((2, 3, 4, 5, 5), 8), None, 2)
    assert len(fused) == 2


def test_running_statistics_equal_torch_over_several_batches(fused: list[int]) -> None:
    ours, norm = NormNeuron(nn.BatchNorm2d(6), LIF()), nn.BatchNorm2d(6)
    for seed in range(5):
        x = 3 * away_from_ties((2, 4, 6, 5, 5), seed) + torch.arange(6).view(6, 1, 1)
        ours(x)
        norm(x.flatten(0, 1))
    assert len(fused) == 5
    for name, value in norm.state_dict().items():
        torch.testing.assert_close(ours.norm.state_dict()[name], value, rtol=1e-6, atol=1e-6)


def test_statistics_can_be_frozen_after_the_norm_is_made(fused: list[int]) -> None:
    module = layer(3, LIF())
    module.norm.track_running_stats = False
    with use_backend(KERNELS):
        module(away_from_ties((2, 4, 3, 5, 5), 1) + 3)
    assert fused
    assert not module.norm.running_mean.any()
    assert module.norm.num_batches_tracked == 0


def test_training_between_an_evaluation_and_its_backward_pass_changes_no_gradient(fused: list[int]) -> None:
    module, x, gradients = layer(3, LIF(surrogate=ATan())), away_from_ties((2, 4, 3, 5, 5), 1), []
    for trains in (False, True):
        evaluated, current = copy.deepcopy(module), x.clone().requires_grad_()
        with use_backend(KERNELS):
            spikes = evaluated.eval()(current)
            if trains:
                evaluated.train()(x + 1)
        gradients.append(*torch.autograd.grad(spikes.square().sum(), current))
    assert len(fused) == 3
    assert gradients[0].any()
    assert torch.equal(*gradients)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_statistics_are_exact_far_from_zero(layout: str) -> None:
    x = lay_out(away_from_ties((4, 8, 3, 16, 16), 2) + 1000.0, layout)
    mean, var = kernels.batch_statistics(x)
    exact = x.double().transpose(0, 2).flatten(1)
    torch.testing.assert_close(mean.double(), exact.mean(1), rtol=1e-6, atol=0)
    torch.testing.assert_close(var.double(), exact.var(1, unbiased=False), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("dtype", "layout", "add"),
    [
        (torch.bfloat16, "channels_last", True),
        (torch.bfloat16, "contiguous", False),
        (torch.float16, "contiguous", True),
    ],
)
def test_half_precision_is_computed_in_float32(fused: list[int], dtype: torch.dtype, layout: str, add: bool) -> None:
    module = layer(6, (PLIF if add else LIF)(0.6, surrogate=ATan()))
    x = lay_out(away_from_ties((4, 3, 6, 5, 7), 11), layout).to(dtype)
    residual = lay_out((torch.rand(x.shape) > 0.7).to(dtype), layout) if add else None
    weight = torch.randn(x.shape).to(dtype)
    got = run(module, KERNELS, x, residual, 4, weight)
    want = run(module, KERNELS, x.float(), None if residual is None else residual.float(), 4, weight.float())
    assert len(fused) == 2
    assert is_active(want[0], *want[1].values())
    assert got[0].dtype == got[1]["x"].dtype == dtype
    assert torch.equal(got[0].float(), want[0])
    digits = torch.finfo(dtype).eps
    for name, gradient in got[1].items():
        scale = want[1][name].abs().max()
        torch.testing.assert_close(gradient.float() / scale, want[1][name] / scale, rtol=2 * digits, atol=2 * digits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_special_values_of_half_precision_come_through(dtype: torch.dtype) -> None:
    # A single step has no reset; with it detached, the tests below share these kernels.
    info = torch.finfo(dtype)
    values = [0.0, info.smallest_normal / 4, 1.0 + info.eps, info.max, -info.max, -float("inf"), float("nan")]
    x = torch.tensor(values, dtype=dtype).view(1, 1, -1)
    with use_backend(KERNELS):
        _, membrane = IF(threshold=3.4e38, detach_reset=True).stream(x)
        # The slope is 1: the gradient of the current is that of the spikes.
        current = torch.zeros_like(x).requires_grad_()
        (gradient,) = torch.autograd.grad(IF(threshold=0.25, detach_reset=True)(current), current, x)
    for got in (membrane, gradient[0]):
        assert torch.equal(got.isnan(), x[0].isnan())
        assert torch.equal(got.to(dtype).nan_to_num(7.0), x[0].nan_to_num(7.0))


@given(seed=seeds)
@settings(max_examples=5)
def test_rounding_to_bfloat16_is_to_nearest_even(seed: int) -> None:
    # Two bfloat16 whose float32 sum needs rounding, ties included: the gradient of the first step's current.
    generator = torch.Generator("cpu").manual_seed(seed)
    x = (torch.randint(-512, 512, (2, 1, 64), generator=generator, device="cpu").to(DEVICE) / 256).bfloat16()
    current = torch.zeros_like(x).requires_grad_()
    with use_backend(KERNELS):
        spikes = IF(threshold=0.25, detach_reset=True)(current)
    (gradient,) = torch.autograd.grad(spikes, current, x)
    assert gradient.any()
    assert torch.equal(gradient[0], (x[0].float() + x[1].float()).bfloat16())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_streaming_in_half_precision_rounds_no_state(dtype: torch.dtype) -> None:
    neuron, current = IF(detach_reset=True), (2 * away_from_ties((6, 4, 64), 1)).to(dtype)
    for backend in (KERNELS, "eager"):
        with use_backend(backend):
            whole, last = neuron.stream(current)
            first, state = neuron.stream(current[:3])
            second, final = neuron.stream(current[3:], state)
        assert whole.any()
        assert state.dtype == torch.float32
        assert torch.equal(torch.cat([first, second]), whole)
        assert torch.equal(final, last)


def test_autocast_runs_in_the_kernel(fused: list[int]) -> None:
    conv, module = nn.Conv2d(3, 8, 3, bias=False), layer(8, LIF(surrogate=ATan()))
    with torch.autocast(DEVICE, torch.bfloat16):
        spikes = module(conv(torch.randn(4, 3, 8, 8)).unflatten(0, (2, 2)))
    assert spikes.dtype == torch.bfloat16
    assert fused
    spikes.sum().backward()
    assert conv.weight.grad is not None
    assert module.norm.weight.grad.dtype == torch.float32


def test_a_broadcast_gradient_is_taken(fused: list[int]) -> None:
    # What a mean over space sends back has strides of 0.
    module, x = layer(4, LIF(surrogate=ATan())), away_from_ties((2, 3, 4, 5, 5), 9)
    gradients = []
    for backend in (KERNELS, "eager"):
        with use_backend(backend):
            x = x.detach().requires_grad_()
            module(x).mean((-2, -1)).square().sum().backward()
            gradients.append(x.grad)
    assert gradients[1].any()
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)
    assert len(fused) == 1


class Louder(LIF):
    def forward(self, current: Tensor) -> Tensor:
        return super().forward(2 * current)


class OwnNorm(nn.BatchNorm2d):
    pass


@pytest.mark.parametrize(
    "module",
    [
        NormNeuron(nn.BatchNorm2d(3), Louder()),
        NormNeuron(OwnNorm(3), LIF()),
        NormNeuron(nn.BatchNorm2d(3, momentum=None), LIF()),
        NormNeuron(nn.BatchNorm2d(3), LIF()).double(),
    ],
    ids=["neuron", "norm", "momentum", "double"],
)
def test_unsupported_modules_run_in_plain_pytorch(fused: list[int], module: NormNeuron) -> None:
    x = away_from_ties((2, 4, 3, 5, 5), 4).to(module.norm.weight.dtype)
    assert 0 < module(x).mean() < 1
    assert not fused


@pytest.mark.parametrize("inner", ["norm", "neuron"])
def test_hooks_on_the_inner_modules_fire(fused: list[int], inner: str) -> None:
    module, seen = layer(3, LIF()), []
    handle = getattr(module, inner).register_forward_hook(lambda *args: seen.append(1))
    x = away_from_ties((2, 4, 3, 5, 5), 4)
    hooked = module(x)
    assert seen
    assert not fused
    handle.remove()
    assert torch.equal(module(x), hooked)
    assert fused


def test_a_replaced_forward_of_the_norm_is_called(fused: list[int]) -> None:
    module, x = layer(3, LIF()), away_from_ties((2, 4, 3, 5, 5), 4)
    module.norm.forward = lambda y: 0 * y
    assert not module(x).any()
    assert not fused


@pytest.mark.parametrize(
    ("shape", "residual"),
    [((2, 3, 4, 5), None), ((2, 3, 5, 5, 5), None), ((1, 1, 4, 1, 1), None), ((2, 3, 4, 5, 5), (2, 3, 4, 5, 6))],
    ids=["axes", "channels", "one value", "residual"],
)
def test_errors_equal_those_of_plain_pytorch(shape: tuple[int, ...], residual: tuple[int, ...] | None) -> None:
    module = NormNeuron(nn.BatchNorm2d(4), LIF())
    added = None if residual is None else torch.zeros(residual)
    messages = []
    for backend in (KERNELS, "eager"):
        with use_backend(backend), pytest.raises((ValueError, RuntimeError)) as error:
            module(torch.zeros(shape), added)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("training", [True, False])
def test_a_sequence_without_time_steps_is_refused(training: bool) -> None:
    layer = NormNeuron(nn.BatchNorm2d(3), LIF()).train(training)
    with pytest.raises(ValueError, match="at least 1 time step"):
        layer(torch.rand(0, 2, 3, 4, 4))
