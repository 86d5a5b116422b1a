"""Run a neuron's step over a whole sequence: in the kernels, or as it is written."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .backend import get_backend, kernels_run
from .compiler.lowering import TracedStep
from .compiler.program import has_support
from .compiler.trace import traced
from .operators.fused_neuron import norm_neuron
from .operators.interface import Flags
from .packing import should_pack, with_bits
from .plain import run_code


def runs_in_kernels(neuron: Any, x: Tensor, time_steps: int, residual: Tensor | None = None) -> bool:
    """Return whether the compiled kernels can add a residual to a current like this one, and run a neuron on it."""
    if residual is not None and (residual.dtype, residual.device) != (x.dtype, x.device):
        return False
    if residual is not None and residual.shape != (time_steps, *x.shape[1:]):
        return False
    return kernels_run(x) and traced(neuron) is not None


def run_in_kernels(
    neuron: Any,
    x: Tensor,
    time_steps: int,
    *,
    initial: Tensor | None = None,
    residual: Tensor | None = None,
    residual_bits: Tensor | None = None,
    norm: Sequence[Tensor | None] = (None, None, None, None),
    eps: float = 0.0,
    batch_statistics: bool = False,
    want_final: bool = False,
) -> tuple[Tensor, Tensor]:
    """Run ``neuron(norm(x) + residual)`` in the kernels; see :func:`.operators.fused_neuron.norm_neuron`.

    Binary spikes carry their bits (see :mod:`.packing`).
    ``norm`` is weight, bias, mean and variance. ``initial`` and the final states have the shapes of
    :meth:`~.modules.Neuron.stream`.
    """
    step = traced(neuron)
    assert step is not None
    scalars, channels = _parameters(neuron, step, x)
    through_time, packs = not _truncates(neuron), neuron.binary and should_pack()
    inputs = [x, residual, *norm[:2], _stack(scalars), _stack(channels), _states_first(initial, through_time, x)]
    *_, p, q, states = inputs
    needs_support = packs and has_support(step.text, step.constants) and _has_sparse_gradient(x, inputs)
    flags = Flags(batch_statistics, through_time, want_final, packs, needs_support)
    spikes, final, bits, support = norm_neuron(
        x, residual, residual_bits, *norm, eps, step.text, p, q, list(step.constants), states, time_steps, list(flags)
    )
    if want_final:
        final = final if through_time else final.detach()
        # [N, ...] if there is one state, else [N, states, ...].
        final = final.squeeze(0) if final.shape[0] == 1 else final.movedim(0, 1)
    return with_bits(spikes, bits, support if needs_support else None) if packs else spikes, final


def _has_sparse_gradient(x: Tensor, inputs: Sequence[Tensor | None]) -> bool:
    """Return whether the gradient of spikes may be computed where it is needed alone; see :mod:`.event_layers`."""
    in_kernels = x.device.type == "cpu" and x.dtype == torch.float32 and get_backend() != "triton"
    return in_kernels and torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)


def run_as_written(neuron: Any, current: Tensor, initial: Tensor | None, repeats: int = 1) -> tuple[Tensor, Tensor]:
    """Call the step of a neuron for each time step of a current, which repeats as often as given, in plain PyTorch."""
    truncate = _truncates(neuron)
    dtype = torch.float32 if current.dtype in (torch.float16, torch.bfloat16) else current.dtype
    initial = _states_first(initial, True, current)
    states: Sequence[Tensor]
    if initial is None:
        states = [torch.zeros_like(current[0], dtype=dtype) for _ in neuron.states]
    else:
        # A step may change its states in place.
        states = [state.clone() for state in initial.to(dtype).unbind(0)]
    spikes = []
    for frame in current.unbind(0) * repeats:
        if truncate:
            states = [state.detach() for state in states]
        spike, *states = neuron.step(frame.to(dtype), *states)
        if len(states) != len(neuron.states):
            raise ValueError(
                f"{type(neuron).__name__}.step must return the spikes and {len(neuron.states)} states "
                f"({', '.join(neuron.states)}), got {len(states)}"
            )
        # The next step may change its states in place, and spikes can be one.
        states = [state.clone() if state is spike else state for state in states]
        spikes.append(spike.to(current.dtype))
    states = [state.expand_as(current[0]) for state in states]
    if len(states) == 1:
        final = states[0]
    else:
        final = torch.stack(states, 1) if states else current.new_zeros(current.shape[1], 0, *current.shape[2:])
    return torch.stack(spikes), final.detach() if truncate else final


def _parameters(neuron: Any, step: TracedStep, current: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return the scalars and the channel parameters of a step, with their graph, for a current ``[T, N, C, ...]``."""
    kind = type(neuron).__name__
    values: dict[str, Any] = {f"c{k}": constant for k, constant in enumerate(step.constants)}
    for k, name in enumerate(step.parameter_names):
        *path, last = name.split(".")
        values[f"w{k}"] = getattr(neuron.get_submodule(".".join(path)), last)
    run_code(step.prelude, values)
    scalars, channels = [values[name] for name in step.scalars], [values[name] for name in step.channels]
    for scalar in scalars:
        if scalar.dim() != 0:
            raise ValueError(
                f"a parameter of {kind} has shape {tuple(scalar.shape)}; expected one number (0-dimensional). For one "
                f"number per channel, write per_channel(parameter, current)"
            )
    for channel in channels:
        if current.dim() < 3 or channel.shape != current.shape[2:3]:
            raise ValueError(
                f"a parameter per channel of {kind} has shape {tuple(channel.shape)}, which does not fit the current "
                f"{tuple(current.shape)}"
            )
    return scalars, channels


def _truncates(neuron: Any) -> bool:
    """Return whether no gradient travels through time."""
    return bool(neuron.detach_membrane) and torch.is_grad_enabled()


def _stack(values: list[Tensor]) -> Tensor | None:
    return torch.stack(values) if values else None


def _states_first(initial: Tensor | None, through_time: bool, current: Tensor) -> Tensor | None:
    """Return states ``[N, ...]`` or ``[N, states, ...]`` as ``[states, N, ...]``."""
    if initial is None:
        return None
    initial = initial if through_time else initial.detach()
    return initial.unsqueeze(0) if initial.dim() < current.dim() else initial.movedim(1, 0)
