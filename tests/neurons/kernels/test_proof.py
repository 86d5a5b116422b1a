"""A kernel is proven before its first result is used. Plain PyTorch computes what a wrong or failing kernel would."""

import copy
import inspect
import itertools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from shortcut_snn.neurons import CLIF, LIF, PLIF, ATan, NormNeuron, backend, plain, proof, use_backend
from shortcut_snn.neurons.compiler.trace import traced
from shortcut_snn.neurons.operators.interface import Affine, Dynamics, Implementation, Source
from shortcut_snn.neurons.proof import ProvenKernels

from ..every_neuron import NEURONS, is_active
from .under_test import KERNELS, module

FORWARD = [
    ("states swapped", "load(initial + 0 * whole", "load(initial + 1 * whole"),
    ("a mask too short", "inside = at < elements", "inside = at < elements - 1"),
    ("no residual", "i += load(residual_t + at, inside)", "i += 0.0"),
    ("the residual of the first step", "residual_t += elements", "residual += 0"),
    ("channels of another layout", "channel = at // run % channels", "channel = at % channels"),
    ("no shift of the norm", "i = i * factor + summand", "i = i * factor"),
    ("float16 that overflows", "i = load(x_t + at, inside)", "i = (load(x_t + at, inside) * 1e5).to(tl.float16) / 1e5"),
    ("bits of another byte", "tl.store(bits + byte,", "tl.store(bits + (byte ^ 1),"),
]
BACKWARD = [
    ("a gradient of 0", "gy = load(spikes_t, inside)", "gy = load(spikes_t, inside) * 0.0"),
    ("gradients of states swapped", "load(grad_final + 0 * whole", "load(grad_final + 1 * whole"),
    ("no residual", "i += load(residual_t + at, inside)", "i += 0.0"),
    ("sums of another channel", "* channels + channel\n", "* channels + (channel + 1) % channels\n"),
    ("sums about 0", "(load(x_t + at, inside) - centre)", "load(x_t + at, inside)"),
    ("the gradient of another step", "current_t -= elements", "current_t -= 0"),
]
FIXED = [
    ("pack", "fired.to(tl.int32) << lane", "fired.to(tl.int32) << (7 - lane)"),
    ("unpack", "inside = at < elements", "inside = at < elements - 1"),
    ("input_grad", "channel = at // run % channels", "channel = at % channels"),
    ("statistics", "squares += value * value", "squares += value"),
]
interpreted = pytest.mark.skipif(KERNELS != "triton", reason="the sources of the GPU kernels are changed")


def lenient(kernels: Implementation = module) -> ProvenKernels:
    return ProvenKernels(kernels, KERNELS, lambda: False)


def use(kernels: ProvenKernels, monkeypatch: pytest.MonkeyPatch) -> ProvenKernels:
    """Let neurons run in these kernels, of which nothing is proven yet."""
    monkeypatch.setattr(backend, "_load", lambda name: kernels)
    return kernels


def dynamics() -> Dynamics:
    """Two states and a parameter: a neuron of which much can be wrong."""
    step = traced(CLIF())
    return Dynamics(step.text, step.constants)


def source(bits: bool = False) -> Source:
    torch.manual_seed(0)
    x, residual = torch.randn(3, 2, 5, 3, 3), torch.rand(3, 2, 5, 3, 3).gt(0.5).float()
    affine = Affine(torch.rand(5) + 0.5, torch.rand(5), torch.rand(5))
    packed = plain.pack(residual) if bits else None
    return Source(x, None if bits else residual, packed, affine, torch.rand(2, 2, 5, 3, 3))


def reason(kernels: ProvenKernels, kernel: str) -> str:
    (verdict,) = [verdict for verdict in kernels.verdicts.values() if verdict.kernel == kernel]
    return verdict.reason


@pytest.fixture
def mutate(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Change the sources that are generated from now on."""
    from shortcut_snn.neurons.gpu.kernels import step

    def clear() -> None:
        step.forward_kernel.cache_clear()
        step.backward_kernel.cache_clear()

    def apply(kernel: str, old: str, new: str) -> None:
        original = step._compiled

        def compiled(name: str, text: str) -> object:
            if name == kernel:
                assert old in text
                text = text.replace(old, new)
            return original(name, text)

        monkeypatch.setattr(step, "_compiled", compiled)
        clear()

    yield apply
    monkeypatch.undo()
    clear()


@interpreted
@pytest.mark.parametrize(("old", "new"), [case[1:] for case in FORWARD], ids=[case[0] for case in FORWARD])
def test_a_wrong_forward_kernel_is_not_used(mutate, old: str, new: str) -> None:
    mutate("forward_kernel", old, new)
    kernels = lenient()
    with pytest.warns(UserWarning, match="kernel 'forward' .* fails: its .* differs"):
        got = kernels.forward(inputs := source(), 3, dynamics(), True, True)
    assert "differs" in reason(kernels, "forward")
    for value, expected in zip(got[:3], plain.forward(inputs, 3, dynamics(), True, True), strict=False):
        assert torch.equal(value, expected)


@interpreted
@pytest.mark.parametrize(("old", "new"), [case[1:] for case in BACKWARD], ids=[case[0] for case in BACKWARD])
def test_a_wrong_backward_kernel_is_not_used(mutate, old: str, new: str) -> None:
    mutate("backward_kernel", old, new)
    kernels, inputs = lenient(), source()
    grad, final = torch.randn(inputs.x.shape), torch.randn(inputs.initial.shape)
    with pytest.warns(UserWarning, match="kernel 'backward' .* fails: its gradient .* differs"):
        got = kernels.backward(grad, final, inputs, dynamics(), True)
    assert "differs" in reason(kernels, "backward")
    expected = plain.backward(grad, final, inputs, dynamics(), True)
    assert torch.equal(got.x, expected.x)
    assert expected.x.any()
    assert torch.equal(got.sums, expected.sums)


@interpreted
@pytest.mark.parametrize(("name", "old", "new"), FIXED, ids=[case[0] for case in FIXED])
def test_a_wrong_fixed_kernel_is_not_used(name: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from shortcut_snn.neurons.gpu.kernels import step

    text = inspect.getsource(getattr(module, f"{name}_kernel").fn).partition("\n")[2]
    assert old in text
    monkeypatch.setattr(module, f"{name}_kernel", step._compiled(f"{name}_kernel", text.replace(old, new)))
    kernels, x, (a, b, c) = lenient(), torch.rand(3, 2, 5, 3, 3), torch.rand(3, 5)
    calls = {
        "pack": lambda: kernels.pack(x.round()),
        "unpack": lambda: kernels.unpack(plain.pack(x.round()), torch.empty_like(x)),
        "input_grad": lambda: kernels.input_grad(x, x, a, b, c, False),
        "statistics": lambda: kernels.batch_statistics(x),
    }
    with pytest.warns(UserWarning, match="fails: its .* differs"):
        calls[name]()


class Failing:
    """Launches of which one fails."""

    errors = itertools.cycle(
        [RuntimeError("out of resource: shared memory"), OSError("no compiler"), KeyError("sm_120")]
    )

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        self.calls, self.number = 0, number
        for name in ("launch", "launch_tiles"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, self._counted(getattr(module, name)))

    def _counted(self, launch: Callable[..., None]) -> Callable[..., None]:
        def call(*args: object, **kwargs: object) -> None:
            self.calls += 1
            if self.calls == self.number:
                raise next(self.errors)
            launch(*args, **kwargs)

        return call


def train_step(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return spikes, the gradient of the input, and a number of the random generator afterwards."""
    torch.manual_seed(3)
    x = x.detach().requires_grad_()
    spikes = network(x)
    (spikes * torch.rand_like(spikes)).sum().backward()
    return spikes.detach(), x.grad, torch.rand(1)


def test_a_launch_that_fails_costs_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        NormNeuron(nn.BatchNorm2d(5), LIF(surrogate=ATan())), NormNeuron(nn.BatchNorm2d(5), PLIF(surrogate=ATan()))
    )
    x = torch.randn(3, 2, 5, 3, 3)
    with use_backend("eager"):
        spikes, grad, number = train_step(copy.deepcopy(network), x)
    assert is_active(spikes, grad)
    failures = 0
    for failing in itertools.count(1, 1 if KERNELS == "numba" else 7):
        with monkeypatch.context() as patch, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            use(lenient(), patch)
            launches = Failing(patch, failing)
            got = train_step(copy.deepcopy(network), x)
        assert torch.equal(got[0], spikes)
        torch.testing.assert_close(got[1], grad, rtol=1e-4, atol=1e-6)
        assert torch.equal(got[2], number)
        failures += len(caught)
        # The launch that raised is the last of its kernel, and one sentence says so.
        assert len(caught) == (launches.calls >= failing)
        assert all("Plain PyTorch computes it" in str(warning.message) for warning in caught)
        if launches.calls < failing:
            break
    assert failures > 3


def test_a_backend_that_was_chosen_must_run(monkeypatch: pytest.MonkeyPatch) -> None:
    use(ProvenKernels(module, KERNELS, lambda: True), monkeypatch)
    Failing(monkeypatch, 1)
    with pytest.raises(RuntimeError, match=f"The backend '{KERNELS}' was chosen, so it must run"):
        LIF()(torch.ones(2, 3))


def test_a_kernel_that_failed_before_its_backend_was_chosen_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[bool] = []
    use(ProvenKernels(module, KERNELS, lambda: bool(chosen)), monkeypatch)
    Failing(monkeypatch, 1)
    with pytest.warns(UserWarning, match="Plain PyTorch computes it"):
        LIF()(torch.ones(2, 3))
    chosen.append(True)
    with pytest.raises(RuntimeError, match=f"The backend '{KERNELS}' was chosen, so it must run"):
        LIF()(torch.ones(2, 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_kernel_passes_its_proof_under_any_default_dtype(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    before, layer = torch.get_default_dtype(), NormNeuron(torch.nn.BatchNorm1d(3), LIF())
    x = torch.randn(4, 2, 3, requires_grad=True)
    kernels = use(lenient(), monkeypatch)
    torch.set_default_dtype(dtype)
    try:
        layer(x).sum().backward()
    finally:
        torch.set_default_dtype(before)
    assert kernels.verdicts
    assert not any(verdict.reason for verdict in kernels.verdicts.values())


def test_memory_that_runs_out_is_no_fault_of_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    use(lenient(), monkeypatch)
    monkeypatch.setattr(Failing, "errors", iter([torch.OutOfMemoryError("tried to allocate 3 GiB")]))
    Failing(monkeypatch, 1)
    with pytest.raises(torch.OutOfMemoryError, match="3 GiB"):
        LIF()(torch.ones(2, 3))


def test_modes_of_the_caller_do_not_see_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    class Count(TorchFunctionMode):
        calls = 0

        def __torch_function__(self, func, types, args=(), kwargs=None):
            self.calls += 1
            return func(*args, **(kwargs or {}))

    kernels, counts = use(lenient(), monkeypatch), []
    for _ in range(2):
        with Count() as mode:
            LIF()(torch.ones(2, 3))
        counts.append(mode.calls)
    assert kernels.verdicts
    assert counts[0] == counts[1]


def test_each_form_is_proven_once() -> None:
    kernels, inputs = lenient(), source()
    for repeated in (False, False, True):
        x = inputs.x[:, :1].contiguous() if repeated else inputs.x
        small = replace(inputs, x=x, residual=inputs.residual[:, : x.shape[1]], initial=inputs.initial[:, : x.shape[1]])
        kernels.forward(small, 3, dynamics(), True, False)
    assert len(kernels.verdicts) == 1
    kernels.forward(replace(inputs, affine=None), 3, dynamics(), True, False)
    kernels.forward(inputs, 3, dynamics(), False, False)
    assert len(kernels.verdicts) == 3
    assert not any(verdict.reason for verdict in kernels.verdicts.values())


@pytest.mark.parametrize("name", ["clif", "by-channel", "ilif"])
def test_examples_make_a_neuron_fire(name: str) -> None:
    step = traced(NEURONS[name]())
    channels = torch.linspace(0.2, 0.8, 5).expand(len(step.channels), 5) if step.channels else None
    neuron = Dynamics(step.text, step.constants, None, channels)
    for inputs in (source(), source(bits=True), Source(torch.randn(1, 4, 5))):
        for example, steps, small in proof._sources(inputs, 3, neuron, seed=0):
            spikes = plain.forward(example, steps, small, False, False)[0]
            grads = plain.backward(torch.ones_like(spikes), None, example, small, True)
            assert is_active(spikes, grads.x)


def test_nothing_is_proven_while_a_network_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = use(lenient(), monkeypatch)
    torch.export.export(NormNeuron(nn.BatchNorm2d(5), LIF()).eval(), (torch.randn(3, 2, 5, 3, 3),))
    assert not kernels.verdicts
