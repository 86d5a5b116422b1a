"""A neuron's step over a whole sequence: in the kernels, in plain PyTorch, or as it is written."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .backend import is_exported, kernels_run
from .compiler.eager import PlainSequence, ahead, compute_dtype
from .compiler.lowering import CannotTraceError, Traced
from .compiler.trace import trace
from .operators.norm_neuron import norm_neuron
from .unseen import behind, unseen

# Parameters of which each channel has its own, at most, in the kernels.
_MOST_CHANNELS = 8


def traced(neuron: Any) -> Traced | None:
    """Return a neuron's program and what it takes, None where its step cannot be traced, which is said once."""
    found: Traced | None = _traced(neuron, neuron._stamp, neuron.training)
    return found


# The compiler of torch 2.9 takes no program for a constant: its graph breaks there. Tried with 2.13.
constant: Any = torch.compiler.assume_constant_result if torch.__version__ >= "2.13" else torch.compiler.disable


@constant  # type: ignore[untyped-decorator]
def _traced(neuron: Any, stamp: str, training: bool) -> Traced | None:
    # In training and in evaluation it may do different things, and networks go back and forth between the two.
    own: dict[bool, tuple[Any, Traced | None]] = vars(neuron).setdefault("_programs", {})
    if own.get(training, (None, None))[0] != (stamp, *unseen(neuron)):
        alike = _alike(neuron)
        vars(neuron)["_behind"] = behind(neuron)
        found = None
        try:
            found = _PROGRAMS.get(alike) or trace(neuron, len(neuron.states))
            if alike is not None:
                if len(_PROGRAMS) >= _MOST_PROGRAMS:
                    _PROGRAMS.clear()
                _PROGRAMS[alike] = found
        except CannotTraceError as error:
            _say_once(type(neuron), str(error))
        own[training] = (stamp, *unseen(neuron)), found
    return own[training][1]


_PROGRAMS: dict[tuple[Any, ...] | None, Traced] = {}
# A surrogate that is another at every training step makes as many.
_MOST_PROGRAMS = 1000


def _alike(neuron: Any) -> tuple[Any, ...] | None:
    """Return what neurons of one program have in common; None where a class is not ours: its step may read anything."""
    parts = (neuron, neuron.surrogate)
    if neuron._modules or not all(type(part).__module__.startswith(f"{__package__}.") for part in parts):
        return None
    given = {**neuron._parameters, **neuron._buffers}
    common: list[Any] = [(name, value is None) for name, value in given.items()]
    for part in parts:
        common.append(type(part))
        for name, value in vars(part).items():
            if name[0] != "_" and value is not neuron.surrogate:
                if not isinstance(value, int | float | str | None):
                    return None
                # 1 and 1.0 are equal, and another program.
                common.append((name, type(value), value))
    return tuple(common)


_said: set[type] = set()


def _say_once(kind: type, reason: str) -> None:
    if kind not in _said:
        _said.add(kind)
        warnings.warn(
            f"{kind.__name__} runs step by step in plain PyTorch, slower and with more memory: {reason}",
            stacklevel=2,
        )


def parameters_of(neuron: Any, found: Traced, current: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return what the program reads as ``p0, ...`` and ``q0, ...``, for a current ``[T, N, C, ...]``.

    Raises:
        ValueError: a parameter of another shape.
    """
    own = [_attribute(neuron, name) for name in found.names]
    values = ahead(found.before, (*found.scalars, *found.channels), own, found.numbers)
    scalars, channels = values[: len(found.scalars)], values[len(found.scalars) :]
    for each in scalars:
        if each.dim() != 0:
            raise ValueError(
                f"a parameter of {type(neuron).__name__} has shape {tuple(each.shape)}: it is one number "
                f"(0-dimensional), or one for each channel, taken as per_channel(parameter, current)"
            )
    for each in channels:
        if current.dim() < 3 or each.shape != current.shape[2:3]:
            raise ValueError(
                f"{type(neuron).__name__} has a parameter of shape {tuple(each.shape)} for each channel, and takes a "
                f"current {tuple(current.shape)}"
            )
    return scalars, channels


def _attribute(neuron: Any, name: str) -> Tensor:
    for part in name.split("."):
        neuron = getattr(neuron, part)
    found: Tensor = neuron
    return found


def runs_in_kernels(neuron: Any, current: Tensor) -> bool:
    """Say whether the compiled kernels run a neuron on a current like this one."""
    if not kernels_run(current):
        return False
    found = traced(neuron)
    return found is not None and len(found.channels) <= _MOST_CHANNELS


def in_kernels(neuron: Any, x: Tensor, time_steps: int, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Run a neuron in the kernels; see :func:`call_kernels`."""
    found = traced(neuron)
    assert found is not None
    return call_kernels(found, *parameters_of(neuron, found, x), not _stops(neuron), x, time_steps, **options)


def call_kernels(
    found: Traced,
    scalars: list[Tensor],
    channels: list[Tensor],
    carry: bool,
    x: Tensor,
    time_steps: int,
    *,
    initial: Tensor | None = None,
    residual: Tensor | None = None,
    residual_bits: Tensor | None = None,
    norm: Sequence[Tensor | None] = (None, None, None, None),
    eps: float = 0.0,
    batch: bool = False,
    want_final: bool = False,
    want_bits: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run a program in the kernels; see :func:`.operators.norm_neuron.norm_neuron`.

    ``norm`` are its weight, bias, mean and variance, ``initial`` and the final states as streams have them.
    """
    initial = _states_first(initial, carry, x)
    spikes, final, bits = norm_neuron(
        x, residual, residual_bits, *norm, eps, found.text, _stacked(scalars), _stacked(channels), list(found.numbers),
        initial, time_steps, [batch, carry, want_final, want_bits],
    )  # fmt: skip
    if want_final:
        final = _states_second(final if carry else final.detach())
    return spikes, final, bits


def in_plain_pytorch(
    found: Traced, scalars: list[Tensor], channels: list[Tensor], carry: bool, current: Tensor, initial: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Run a program in plain PyTorch."""
    spikes, final = PlainSequence.apply(  # type: ignore[no-untyped-call]
        found.text, found.numbers, carry, len(scalars), current, _states_first(initial, carry, current),
        *scalars, *channels,
    )  # fmt: skip
    return spikes, _states_second(final)


def _stops(neuron: Any) -> bool:
    """Say whether no gradient travels through time."""
    return bool(neuron.detach_membrane) and torch.is_grad_enabled()


def _stacked(values: list[Tensor]) -> Tensor | None:
    return torch.stack(values) if values else None


def _states_first(initial: Tensor | None, carry: bool, current: Tensor) -> Tensor | None:
    if initial is None:
        return None
    initial = initial if carry else initial.detach()
    # Of several states the axis behind the batch's is theirs.
    return initial.unsqueeze(0) if initial.dim() < current.dim() else initial.movedim(1, 0)


def _states_second(final: Tensor) -> Tensor:
    return final.squeeze(0) if final.shape[0] == 1 else final.movedim(0, 1)


def stream(neuron: Any, current: Tensor, initial: Tensor | None, repeated: int = 1) -> tuple[Tensor, Tensor]:
    """Return spikes ``[T, N, ...]`` and the states after them, as :meth:`~.modules.Neuron.stream` has them.

    Args:
        neuron: what fires.
        current: ``[T, N, ...]``.
        initial: states before the first step.
        repeated: in an exported graph, how often the current comes, so that it need not be written out.
    """
    if current.is_meta and not current.requires_grad:
        # There is nothing to compute: shapes are known.
        state, count = torch.empty_like(current[0]), len(neuron.states)
        return torch.empty_like(current), state if count == 1 else torch.stack([state] * count, 1)
    if not is_exported() and runs_in_kernels(neuron, current):
        spikes, final, _ = in_kernels(neuron, current, current.shape[0], initial=initial, want_final=True)
        return spikes, final
    found = None if is_exported() or torch.compiler.is_compiling() else traced(neuron)
    if found is None:
        return as_written(
            neuron.step, len(neuron.states), _stops(neuron), current, initial,
            is_exported() and _was_traced(neuron), repeated,
        )  # fmt: skip
    return in_plain_pytorch(found, *parameters_of(neuron, found, current), not _stops(neuron), current, initial)


def _was_traced(neuron: Any) -> bool:
    """Whether the step is known to be made of operations on single elements; nothing is traced for it."""
    return any(found for _, found in vars(neuron).get("_programs", {}).values())


def as_written(
    step: Callable[..., Any],
    count: int,
    outside: bool,
    current: Tensor,
    initial: Tensor | None,
    elementwise: bool = False,
    repeated: int = 1,
) -> tuple[Tensor, Tensor]:
    """Run a step as it is written: what a file for another runtime holds, and what no kernel can be made of.

    Args:
        step: maps a current and states to spikes and states.
        count: how many states.
        outside: whether no gradient travels through time.
        current: ``[T, N, ...]``.
        initial: as streams have it.
        elementwise: states of 0 may be a single number, with which a runtime computes nothing.
        repeated: how often the current comes.
    """
    dtype = compute_dtype(current.dtype)
    first = _states_first(initial, True, current)
    states: Sequence[Tensor]
    if first is not None:
        states = first.to(dtype).unbind(0)
    elif elementwise:
        states = [torch.zeros((), dtype=dtype, device=current.device)] * count
    else:
        states = [torch.zeros_like(current[0], dtype=dtype)] * count
    spikes = []
    for each in current.unbind(0) * repeated:
        if outside:
            states = [state.detach() for state in states]
        spike, *states = step(each.to(dtype), *states)
        spikes.append(spike.to(current.dtype))
    if outside:
        states = [state.detach() for state in states]
    states = [state.expand_as(current[0]) for state in states]
    final = torch.stack(states, 1) if count > 1 else states[0]
    return torch.stack(spikes), final.to(current.dtype)
