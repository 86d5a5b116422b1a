"""The GPU implementation: what the operators compute, by the kernels that Triton compiles.

With ``TRITON_INTERPRET=1`` in the environment before this is imported, it runs in Triton's interpreter, on tensors of
any device.
"""

from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from ..compiler.program import backward as derive
from ..operators.interface import Dynamics, Gradients, Source
from ..operators.layout import bit_row, empty_sequence, first_of_channels, is_channels_last, run_length, to_layout
from .kernels.bits import pack_kernel, unpack_kernel
from .kernels.input_grad import input_grad_kernel
from .kernels.statistics import statistics_kernel
from .kernels.step import backward_kernel, forward_kernel

INTERPRETED = not isinstance(pack_kernel, triton.JITFunction)

# Elements of a program at a time: at most, and where there are fewer, at least (one for each thread).
_TILE, _LEAST = 1024, 128
# Programs of a kernel that sums, at most: constant, so that sums do not depend on the GPU.
_PROGRAMS = 1024


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Run a kernel on the device of its first argument."""
    with torch.cuda.device_of(arguments[0]):  # type: ignore[no-untyped-call]
        # Forward and backward must round alike, or they would disagree on who fired: no fused multiply-add.
        kernel[grid](*map(_storable, arguments), **constants, enable_fp_fusion=False)


def _storable(argument: Any) -> Any:
    if isinstance(argument, Tensor) and argument.dtype == torch.bfloat16:
        return argument.view(torch.int16)
    return argument


def _floats(values: Tensor | None, x: Tensor) -> Tensor | None:
    """Return parameters where the kernels read them, so that nobody waits for a number from the GPU."""
    return None if values is None else values.to(x.device, torch.float32).contiguous()


@dataclass(frozen=True)
class Tiles:
    """How a sequence in memory, ``[rows, channels, run]``, is cut into tiles for kernels that sum over channels."""

    run: int
    channels: int
    positions: int
    block_p: int
    block_c: int

    @classmethod
    def of(cls, elements: int, run: int, channels: int) -> "Tiles":
        """Cut elements; neighbours in memory are of one channel unless run is 1."""
        block_c = min(triton.next_power_of_2(channels), 64) if run == 1 else 1
        positions = elements // channels
        needed = max(_LEAST // block_c, triton.next_power_of_2(positions))
        return cls(run, channels, positions, min(_TILE // block_c, needed), block_c)

    @property
    def tiles(self) -> int:
        """How many there are for a block of channels."""
        return -(-self.positions // self.block_p)

    @property
    def grid(self) -> tuple[int, int]:
        """Programs: parts of the positions, and blocks of channels."""
        blocks = -(-self.channels // self.block_c)
        return min(self.tiles, max(1, _PROGRAMS // blocks)), blocks


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """See :class:`~.contract.Implementation`."""
    channels_last = is_channels_last(x)
    x = to_layout(x, channels_last)
    cut = Tiles.of(x.numel(), run_length(x, channels_last), x.shape[2])
    sums = x.new_empty((cut.grid[0], 2, cut.channels), dtype=torch.float32)
    launch(
        statistics_kernel,
        cut.grid,
        x,
        sums,
        cut.positions,
        cut.tiles,
        cut.run,
        cut.channels,
        BLOCK_P=cut.block_p,
        BLOCK_C=cut.block_c,
    )
    means = sums.double().sum(0) / cut.positions
    return (means[0] + first_of_channels(x)).float(), (means[1] - means[0].square()).clamp_min(0.0).float()


def _sequences(x: Tensor, channels_last: bool, *others: Tensor | None) -> list[Tensor | None]:
    """Lay out others as x, of its dtype."""
    return [None if other is None else to_layout(other.to(x.dtype), channels_last) for other in others]


def forward(
    source: Source,
    time_steps: int,
    dynamics: Dynamics,
    want_final: bool,
    want_bits: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """See :class:`~.contract.Implementation`."""
    residual, residual_bits, affine, initial = source.residual, source.residual_bits, source.affine, source.initial
    channels_last = is_channels_last(source.x)
    x = to_layout(source.x, channels_last)
    elements = x[0].numel()
    row = bit_row(elements)
    residual, initial = _sequences(x, channels_last, residual, initial)
    spikes = empty_sequence(x, time_steps, channels_last)
    final = empty_sequence(x, dynamics.program.states, channels_last) if want_final else None
    bits = x.new_empty((time_steps, row), dtype=torch.uint8) if want_bits else None
    by_channel = _floats(dynamics.channels, x)
    launch(
        forward_kernel(dynamics.forward_text, len(dynamics.numbers)),
        (triton.cdiv(row, _TILE // 8),),
        x,
        residual,
        residual_bits,
        affine and affine.scale,
        affine and affine.shift,
        initial,
        _floats(dynamics.scalars, x),
        by_channel,
        spikes,
        bits,
        final,
        time_steps,
        elements,
        elements if x.shape[0] == time_steps else 0,
        row,
        run_length(x, channels_last),
        x.shape[2] if affine or by_channel is not None else 1,
        *dynamics.numbers,
        BYTES=_TILE // 8,
    )
    return spikes, final, bits


def backward(
    grad_spikes: Tensor,
    grad_final: Tensor | None,
    source: Source,
    dynamics: Dynamics,
    grad_residual: bool,
) -> Gradients:
    """See :class:`~.contract.Implementation`."""
    residual, residual_bits, affine, initial = source.residual, source.residual_bits, source.affine, source.initial
    channels_last = is_channels_last(source.x)
    x = to_layout(source.x, channels_last)
    elements, time_steps = x[0].numel(), grad_spikes.shape[0]
    by_channel = _floats(dynamics.channels, x)
    if affine or by_channel is not None:
        cut = Tiles.of(elements, run_length(x, channels_last), x.shape[2])
    else:
        cut = Tiles.of(elements, elements, 1)
    parts, blocks = cut.grid
    static = x.shape[0] != time_steps
    residual, initial, grad_final, grads = _sequences(x, channels_last, residual, initial, grad_final, grad_spikes)
    current = empty_sequence(x, time_steps, channels_last) if grad_residual or not static else None
    summed = empty_sequence(x, 1, channels_last) if static else None
    grad_initial = None if initial is None else empty_sequence(x, dynamics.program.states, channels_last)
    scalars = sum(name[0] == "p" for name in dynamics.learn)
    channelwise = len(dynamics.learn) - scalars
    kept = len(derive(dynamics.text, dynamics.learn, dynamics.carry).kept)

    def floats(*shape: int) -> Tensor:
        return x.new_empty(shape, dtype=torch.float32)

    sums = floats(parts, 2 + channelwise, cut.channels) if affine or channelwise else None
    learned = floats(parts * blocks, scalars) if scalars else None
    launch(
        backward_kernel(dynamics.text, len(dynamics.numbers), dynamics.learn, dynamics.carry),
        cut.grid,
        x,
        residual,
        residual_bits,
        affine and affine.scale,
        affine and affine.shift,
        affine and affine.mean,
        initial,
        _floats(dynamics.scalars, x),
        by_channel,
        grads,
        grad_final,
        current,
        summed,
        grad_initial,
        sums,
        learned,
        floats(parts * blocks, time_steps, kept, cut.block_p * cut.block_c),
        time_steps,
        kept,
        elements,
        0 if static else elements,
        bit_row(elements),
        cut.run,
        cut.channels,
        cut.positions,
        cut.tiles,
        *dynamics.numbers,
        STATIC=static,
        BLOCK_P=cut.block_p,
        BLOCK_C=cut.block_c,
    )
    grad_x = summed if summed is not None else current
    assert grad_x is not None
    added = None if sums is None else sums.sum(0, dtype=torch.float64)
    return Gradients(
        current,
        grad_x,
        None if added is None or not affine else added[:2].float(),
        None if learned is None else learned.sum(0, dtype=torch.float64),
        added[2:] if added is not None and channelwise else None,
        grad_initial,
    )


def input_grad(grad: Tensor, x: Tensor, a: Tensor, b: Tensor, c: Tensor, in_place: bool) -> Tensor:
    """See :class:`~.contract.Implementation`."""
    channels_last = is_channels_last(x)
    x = to_layout(x, channels_last)
    out = grad if in_place else empty_sequence(x, x.shape[0], channels_last)
    grid, run = (triton.cdiv(x.numel(), _TILE),), run_length(x, channels_last)
    launch(input_grad_kernel, grid, grad, x, out, a, b, c, x.numel(), run, x.shape[2], BLOCK=_TILE)
    return out


def pack(spikes: Tensor) -> Tensor:
    """See :class:`~.contract.Implementation`."""
    elements, steps = spikes[0].numel(), spikes.shape[0]
    row = bit_row(elements)
    bits = spikes.new_empty((steps, row), dtype=torch.uint8)
    launch(pack_kernel, (triton.cdiv(row, _TILE // 8), steps), spikes, bits, elements, row, BYTES=_TILE // 8)
    return bits


def unpack(bits: Tensor, out: Tensor) -> None:
    """See :class:`~.contract.Implementation`."""
    elements, steps = out[0].numel(), out.shape[0]
    launch(unpack_kernel, (triton.cdiv(elements, _TILE), steps), bits, out, elements, bits.shape[1], BLOCK=_TILE)
