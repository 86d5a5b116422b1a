"""Check a kernel before its first result is used, and fall back to plain PyTorch if it fails.

A kernel that is right in an interpreter may be wrong on a device: an older compiler, another processor. So the first
call of each kernel runs it on small examples first, and holds it against :mod:`.plain`. The verdict is kept for the
process. A kernel that differs, or raises, is not used again; the others are.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from . import plain
from .operators.interface import Affine, Dynamics, Gradients, Implementation, Source
from .operators.layout import is_channels_last, run_length, to_layout

Key = tuple[Any, ...]
Examples = Iterator[tuple[Any, ...]]
MakeExamples = Callable[[int], Examples]
Case = tuple[Tensor, Key, MakeExamples]

# Sizes of a time step. The first is odd and more than one tile of every kernel; Triton compiles a kernel again for
# sizes that are multiples of 16, as most networks have.
_SIZES = ((5, 7, 31), (4, 16, 32))
_OUT_OF_MEMORY = (MemoryError, torch.OutOfMemoryError)
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4, torch.bfloat16: 2e-2, torch.float16: 4e-3}


@dataclass(frozen=True)
class Verdict:
    """The result of the proof of a kernel; no reason if it passed."""

    kernel: str
    dtype: torch.dtype
    device: torch.device
    reason: str


class ProvenKernels:
    """The kernels of a device, each proven at its first call; plain PyTorch where one fails.

    ``is_required`` returns whether a failure is an error, since the user chose this backend.
    """

    def __init__(self, kernels: Implementation, name: str, is_required: Callable[[], bool]) -> None:
        self.kernels = kernels
        self.name = name
        self.is_required = is_required
        self.verdicts: dict[Key, Verdict] = {}

    def __getattr__(self, kernel: str) -> Callable[..., Any]:
        """Return a function of :class:`~.operators.interface.Implementation`."""
        if kernel not in _CASES:
            raise AttributeError(kernel)
        return lambda *arguments: self._run(kernel, arguments, *_CASES[kernel](*arguments))

    def _run(self, kernel: str, arguments: tuple[Any, ...], x: Tensor, form: Key, examples: MakeExamples) -> Any:
        """Call a kernel, after its proof at the first call of this form, or plain PyTorch if it fails."""
        # Each call makes it, so it is of what is cheap to ask.
        key = (kernel, x.dtype, x.device, x.dim(), x.is_contiguous(), x.shape[3:].numel() == 1, *form)
        verdict = self.verdicts.get(key)
        if verdict is None and not (x.is_cuda and torch.cuda.is_current_stream_capturing()):
            verdict = self._keep(key, self._prove(kernel, examples))
        if verdict is None or not verdict.reason:
            try:
                return getattr(self.kernels, kernel)(*arguments)
            except _OUT_OF_MEMORY:
                raise
            except Exception as error:
                verdict = self._keep(key, first_line(error))
        if self.is_required():
            raise RuntimeError(
                f"{self._failure(verdict)}. The backend {self.name!r} was chosen, so it must run: choose 'auto' for "
                "plain PyTorch instead, or see shortcut-snn doctor"
            )
        return getattr(plain, kernel)(*arguments)

    def _prove(self, kernel: str, examples: MakeExamples) -> str:
        """Return why a kernel cannot be used; empty if it computes what plain PyTorch does."""
        function = getattr(self.kernels, kernel)
        try:
            # Modes that record or move what the caller computes are not for the examples.
            with torch._C.DisableTorchFunction():
                # A last bit of an exponential can flip a spike, so a second set of examples decides.
                return _difference(function, kernel, examples(0)) and _difference(function, kernel, examples(1))
        except _OUT_OF_MEMORY:
            raise
        except Exception as error:
            return first_line(error)

    def _keep(self, key: Key, reason: str) -> Verdict:
        """Keep the verdict on a kernel; say why it fails."""
        kernel, dtype, device = key[:3]
        verdict = self.verdicts[key] = Verdict(kernel, dtype, device, reason)
        if reason and not self.is_required():
            warnings.warn(
                f"{self._failure(verdict)}. Plain PyTorch computes it, slower and with more memory; "
                "shortcut-snn doctor says more",
                stacklevel=2,
            )
        return verdict

    def _failure(self, verdict: Verdict) -> str:
        kernel = f"{verdict.kernel!r} ({str(verdict.dtype)[6:]}, {verdict.device})"
        return f"the {self.name} kernel {kernel} fails: {verdict.reason}"


# For the arguments of each function: a sequence among them, what else its kernel is compiled for, and examples.


def _forward_case(source: Source, time_steps: int, dynamics: Dynamics, *wanted: bool) -> Case:
    want_support = wanted[2:] == (True,)
    text = dynamics.text if want_support else dynamics.forward_text

    def examples(seed: int) -> Examples:
        return ((*each, *wanted) for each in _sources(source, time_steps, dynamics, seed))

    return source.x, (text, *_form(source, time_steps, dynamics), *wanted), examples


def _backward_case(
    grad_spikes: Tensor, grad_final: Tensor | None, source: Source, dynamics: Dynamics, grad_residual: bool
) -> Case:
    time_steps = grad_spikes.shape[0]

    def examples(seed: int) -> Examples:
        for example, steps, step in _sources(source, time_steps, dynamics, seed):
            x, channels_last = example.x, is_channels_last(example.x)
            generator = torch.Generator().manual_seed(seed)
            shapes = [(steps, *x.shape[1:]), (dynamics.program.states, *x.shape[1:])]
            grads = [to_layout(_random(shape, generator, x), channels_last) for shape in shapes]
            yield grads[0], None if grad_final is None else grads[1].float(), example, step, grad_residual

    wanted = (dynamics.learn_scalars, dynamics.learn_channels, dynamics.through_time, grad_final is None)
    form = (dynamics.text, *_form(source, time_steps, dynamics), *wanted, grad_residual)
    return source.x, form, examples


def _case(x: Tensor, make: Callable[[Tensor, int], tuple[Any, ...]], form: Key = ()) -> Case:
    """Return the case of a function whose arguments are made from a sequence of three time steps, and a seed."""
    return x, form, lambda seed: (make(_sequence(x, 3, sizes, 1.0, seed), seed) for sizes in _SIZES)


def _factors(x: Tensor, seed: int) -> Tensor:
    return _random((3, x.shape[2]), torch.Generator().manual_seed(seed), x).float()


_CASES: dict[str, Callable[..., Case]] = {
    "batch_statistics": lambda x: _case(x, lambda example, seed: (example,)),
    "forward": _forward_case,
    "backward": _backward_case,
    "input_grad": lambda grad, x, a, b, c, in_place: _case(
        x, lambda example, seed: (example.clone(), example, *_factors(example, seed), in_place), (in_place,)
    ),
    "pack": lambda spikes: _case(spikes, lambda x, seed: (x.gt(0).to(x),)),
    "unpack": lambda bits, out: _case(out, lambda x, seed: (plain.pack(x.gt(0).to(x)), torch.zeros_like(x))),
}


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the name of its class without one."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _form(source: Source, time_steps: int, dynamics: Dynamics) -> Key:
    """Return which optional inputs a kernel is compiled for."""
    return (
        source.x.shape[0] == time_steps,
        source.residual is None,
        source.residual_bits is None,
        source.affine is None,
        source.initial is None,
        dynamics.scalars is None,
        dynamics.channels is None,
    )


def _random(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.randn(shape, generator=generator, device="cpu").to(like.device, like.dtype)


def _sequence(like: Tensor, steps: int, sizes: tuple[int, int, int], scale: float, seed: int) -> Tensor:
    """Return currents of many magnitudes, in the dtype, layout and number of axes of a sequence."""
    batch, channels, run = sizes
    # Neighbours in the memory of a contiguous sequence may belong to different channels.
    is_flat = not is_channels_last(like) and run_length(like, False) == 1
    shape: tuple[int, ...] = (steps, batch * run, channels) if is_flat else (steps, batch, channels, run)
    if like.dim() < 3:
        shape = (steps, batch * run * channels)
    generator = torch.Generator().manual_seed(seed)
    magnitudes = torch.exp(3 * torch.rand(shape, generator=generator, device="cpu") - 1.5)
    values = scale * magnitudes * _random(shape, generator, magnitudes)
    # The last element counts: a mask that is one too short would not show in a small current.
    values.view(steps, -1)[:, -1] = values.amax()
    return to_layout(values.to(like.device, like.dtype), is_channels_last(like))


def _sources(source: Source, time_steps: int, dynamics: Dynamics, seed: int) -> Iterator[tuple[Source, int, Dynamics]]:
    """Yield small inputs of the same form for one and three time steps, on which the neuron fires."""
    static = source.x.shape[0] != time_steps
    for steps, sizes in ((1, _SIZES[0]), *((3, sizes) for sizes in _SIZES)):
        # A constant current of one step is an ordinary one.
        if steps == 1 and static:
            continue
        for scale in (1.0, 10.0, 100.0, 1000.0):
            x = _sequence(source.x, 1 if static else steps, sizes, scale, seed)
            example, step = _like(source, x, steps, dynamics, seed)
            spikes = plain.forward(example, steps, step, False, False)[0]
            if spikes.any() and not spikes.all():
                break
        yield example, steps, step


def _like(source: Source, x: Tensor, steps: int, dynamics: Dynamics, seed: int) -> tuple[Source, Dynamics]:
    """Return random inputs around a current, those that a source has, and the dynamics of as many channels."""
    generator, channels_last = torch.Generator().manual_seed(seed), is_channels_last(x)
    residual = to_layout(_random((steps, *x.shape[1:]), generator, x), channels_last)
    initial = to_layout(_random((dynamics.program.states, *x.shape[1:]), generator, x), channels_last)
    affine = None
    if source.affine is not None:
        factors = torch.rand(3, x.shape[2], generator=generator, dtype=torch.float32, device="cpu").to(x.device)
        affine = Affine(factors[0] + 0.5, factors[1] / 5, factors[2] / 5)
    if dynamics.channels is not None:
        index = torch.arange(x.shape[2], device=dynamics.channels.device) % dynamics.channels.shape[1]
        dynamics = replace(dynamics, channels=dynamics.channels[:, index])
    example = Source(
        x,
        None if source.residual is None else residual,
        None if source.residual_bits is None else plain.pack(residual.gt(0).to(x)),
        affine,
        None if source.initial is None else initial.float(),
    )
    return example, dynamics


def _difference(function: Callable[..., Any], kernel: str, examples: Examples) -> str:
    """Return how a kernel differs from plain PyTorch on examples; empty if it does not."""
    for arguments in examples:
        # A kernel that works in place must not change what plain PyTorch reads.
        copies = tuple(value.clone() if isinstance(value, Tensor) else value for value in arguments)
        result, expected = function(*arguments), getattr(plain, kernel)(*copies)
        if kernel == "unpack":
            result, expected = arguments[1], copies[1]
        for (name, value), (_, wanted) in zip(_tensors(result), _tensors(expected), strict=True):
            if problem := _compare(value, wanted, exactly=name == "spikes"):
                return f"its {name} {problem}"
    return ""


def _tensors(result: Any) -> list[tuple[str, Tensor | None]]:
    """Return the tensors of a result by name."""
    if isinstance(result, Gradients):
        return [(f"gradient {field.name}", getattr(result, field.name)) for field in fields(result)]
    if isinstance(result, Tensor):
        return [("result", result)]
    # A forward pass returns four, statistics two.
    names = ("spikes", "final states", "bits", "support") if len(result) == 4 else ("mean", "variance")
    return list(zip(names, result, strict=True))


def _compare(value: Tensor | None, expected: Tensor | None, *, exactly: bool) -> str:
    """Return how a tensor differs from the one expected; empty if it does not."""
    if value is None or expected is None:
        return "" if value is expected else "is missing"
    tolerance = 0.0
    if not exactly and expected.is_floating_point() and expected.numel():
        largest = expected.double().nan_to_num(0.0, 0.0, 0.0).abs().max()
        tolerance = _TOLERANCE[expected.dtype] * max(float(largest), 1e-6)
    try:
        torch.testing.assert_close(value, expected, rtol=0.0, atol=tolerance, equal_nan=True)
    except AssertionError as error:
        # Without its heading.
        details = str(error).rpartition("!\n\n")[2]
        return f"differs from plain PyTorch's: {' '.join(details.split())}"
    return ""
