"""The GPU implementation of the operators, by the kernels that Triton compiles.

With ``TRITON_INTERPRET=1`` in the environment before this is imported, it runs in Triton's interpreter, on tensors of
any device.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from ..operators.interface import Dynamics, Gradients, Source
from ..operators.layout import bit_row, empty_sequence, first_of_channels, is_channels_last, run_length, to_layout
from .kernels.fixed import input_grad_kernel, pack_kernel, statistics_kernel, unpack_kernel
from .kernels.step import backward_kernel, forward_kernel

INTERPRETED = not isinstance(pack_kernel, triton.JITFunction)

# Elements of a tile, and for fewer elements the least (one for each thread).
_TILE, _MIN_TILE = 1024, 128
# The most programs of a kernel with sums. It is constant, so that sums do not depend on the GPU.
_MAX_PROGRAMS = 1024


def launch(kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any], **constants: Any) -> None:
    """Run a kernel on the device of its first argument; arguments come in the order of its parameters."""
    values = list(arguments.values())
    with torch.cuda.device_of(values[0]):  # type: ignore[no-untyped-call]
        # No fused multiply-add: forward and backward must round alike, or they would disagree about spikes.
        kernel[grid](*map(_kernel_argument, values), **constants, enable_fp_fusion=False)


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """See :class:`~..operators.interface.Implementation`."""
    channels_last = is_channels_last(x)
    x = to_layout(x, channels_last)
    grid, sizes, block = _tiles(x.numel(), run_length(x, channels_last), x.shape[2])
    sums = x.new_empty((grid[0], 2, x.shape[2]), dtype=torch.float32)
    launch(statistics_kernel, grid, {"x": x, "sums": sums, **sizes}, **block)
    means = sums.double().sum(0) / sizes["positions"]
    return (means[0] + first_of_channels(x)).float(), (means[1] - means[0].square()).clamp_min(0.0).float()


def forward(
    source: Source, time_steps: int, dynamics: Dynamics, want_final: bool, want_bits: bool, want_support: bool = False
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """See :class:`~..operators.interface.Implementation`; no layer on a GPU reads the support."""
    channels_last = is_channels_last(source.x)
    x = to_layout(source.x, channels_last)
    row = bit_row(x[0].numel())
    spikes = empty_sequence(x, time_steps, channels_last)
    final = empty_sequence(x, dynamics.program.states, channels_last, torch.float32) if want_final else None
    bits = x.new_empty((time_steps, row), dtype=torch.uint8) if want_bits else None
    by_channel = source.affine is not None or dynamics.channels is not None
    outputs = {"spikes": spikes, "bits": bits, "final": final}
    sizes = {"run": run_length(x, channels_last), "channels": x.shape[2] if by_channel else 1}
    arguments = _inputs(source, x, time_steps, dynamics) | outputs | sizes
    kernel = forward_kernel(dynamics.forward_text, tuple(arguments))
    launch(kernel, (triton.cdiv(row, _TILE // 8),), arguments, BYTES=_TILE // 8)
    return spikes, final, bits, None


def backward(
    grad_spikes: Tensor, grad_final: Tensor | None, source: Source, dynamics: Dynamics, grad_residual: bool
) -> Gradients:
    """See :class:`~..operators.interface.Implementation`."""
    channels_last = is_channels_last(source.x)
    x = to_layout(source.x, channels_last)
    elements, time_steps = x[0].numel(), grad_spikes.shape[0]
    affine = source.affine
    by_channel = affine is not None or dynamics.channels is not None
    run, tiled_channels = (run_length(x, channels_last), x.shape[2]) if by_channel else (elements, 1)
    grid, sizes, block = _tiles(elements, run, tiled_channels)
    programs = grid[0] * grid[1]
    scalars, channels = dynamics.learned_counts
    saved = len(dynamics.backward_step.saved)

    outputs = Gradients.buffers(x, source, time_steps, dynamics.program.states, grad_residual)

    def sums(*shape: int) -> Tensor:
        return x.new_empty(shape, dtype=torch.float32)

    by_part = sums(grid[0], 2 + channels, tiled_channels) if affine is not None or channels else None
    learned = sums(programs, scalars) if scalars else None
    arguments = {
        **_inputs(source, x, time_steps, dynamics),
        "mean": affine and affine.mean,
        "grad_spikes": _in_layout(grad_spikes, channels_last, x.dtype),
        "grad_final": _in_layout(grad_final, channels_last),
        **outputs,
        "sums": by_part,
        "learned": learned,
        "scratch": sums(programs, time_steps, saved, block["BLOCK_P"] * block["BLOCK_C"]),
        "saved_count": saved,
        **sizes,
    }
    kernel = backward_kernel(dynamics.text, tuple(arguments), dynamics.learned, dynamics.through_time)
    launch(kernel, grid, arguments, STATIC=x.shape[0] != time_steps, **block)

    totals, learned = (None if items is None else items.sum(0, dtype=torch.float64) for items in (by_part, learned))
    return Gradients.of(outputs, totals, learned, affine is not None)


def _inputs(source: Source, x: Tensor, time_steps: int, dynamics: Dynamics) -> dict[str, Any]:
    """Return the arguments of both passes; x is that of the source, in a layout."""
    channels_last, affine, elements = is_channels_last(x), source.affine, x[0].numel()
    return {
        "x": x,
        "residual": _in_layout(source.residual, channels_last, x.dtype),
        "residual_bits": source.residual_bits,
        "scale": affine and affine.scale,
        "shift": affine and affine.shift,
        "initial": _in_layout(source.initial, channels_last),
        "scalars": _parameters(dynamics.scalars, x),
        "by_channel": _parameters(dynamics.channels, x),
        "time_steps": time_steps,
        "elements": elements,
        "x_step": elements if x.shape[0] == time_steps else 0,
        "bits_step": bit_row(elements),
        **{f"c{k}": constant for k, constant in enumerate(dynamics.constants)},
    }


def input_grad(grad: Tensor, x: Tensor, a: Tensor, b: Tensor, c: Tensor, in_place: bool) -> Tensor:
    """See :class:`~..operators.interface.Implementation`."""
    channels_last = is_channels_last(x)
    x = to_layout(x, channels_last)
    out = grad if in_place else empty_sequence(x, x.shape[0], channels_last)
    arguments = {"grad": grad, "x": x, "out": out, "a": a, "b": b, "c": c}
    sizes = {"elements": x.numel(), "run": run_length(x, channels_last), "channels": x.shape[2]}
    launch(input_grad_kernel, (triton.cdiv(x.numel(), _TILE),), arguments | sizes, BLOCK=_TILE)
    return out


def pack(spikes: Tensor) -> Tensor:
    """See :class:`~..operators.interface.Implementation`."""
    elements, steps = spikes[0].numel(), spikes.shape[0]
    row = bit_row(elements)
    bits = spikes.new_empty((steps, row), dtype=torch.uint8)
    arguments = {"spikes": spikes, "bits": bits, "elements": elements, "bits_step": row}
    launch(pack_kernel, (triton.cdiv(row, _TILE // 8), steps), arguments, BYTES=_TILE // 8)
    return bits


def unpack(bits: Tensor, out: Tensor) -> None:
    """See :class:`~..operators.interface.Implementation`."""
    elements, steps = out[0].numel(), out.shape[0]
    arguments = {"bits": bits, "spikes": out, "elements": elements, "bits_step": bits.shape[1]}
    launch(unpack_kernel, (triton.cdiv(elements, _TILE), steps), arguments, BLOCK=_TILE)


def _tiles(elements: int, run: int, channels: int) -> tuple[tuple[int, int], dict[str, int], dict[str, int]]:
    """Return the grid, the sizes and the constants of a kernel that sums a sequence ``[rows, channels, run]``.

    ``run`` neighbours in memory belong to one channel, ``positions`` are rows * run. A tile has BLOCK_P positions and
    BLOCK_C channels: one, unless run is 1. The grid is parts of the positions, and blocks of channels.
    """
    block_c = min(triton.next_power_of_2(channels), 64) if run == 1 else 1
    positions = elements // channels
    block_p = min(_TILE // block_c, max(_MIN_TILE // block_c, triton.next_power_of_2(positions)))
    tiles, blocks = -(-positions // block_p), -(-channels // block_c)
    grid = min(tiles, max(1, _MAX_PROGRAMS // blocks)), blocks
    sizes = {"positions": positions, "tiles": tiles, "run": run, "channels": channels}
    return grid, sizes, {"BLOCK_P": block_p, "BLOCK_C": block_c}


def _kernel_argument(argument: Any) -> Any:
    """Return bfloat16 tensors as int16, which the kernels convert themselves."""
    if isinstance(argument, Tensor) and argument.dtype == torch.bfloat16:
        return argument.view(torch.int16)
    return argument


def _in_layout(x: Tensor | None, channels_last: bool, dtype: torch.dtype = torch.float32) -> Tensor | None:
    return None if x is None else to_layout(x.to(dtype), channels_last)


def _parameters(values: Tensor | None, x: Tensor) -> Tensor | None:
    """Return parameters on the device, where kernels read them: a number passed from the CPU would synchronise."""
    return None if values is None else values.to(x.device, torch.float32).contiguous()
