"""Launch the kernels of convolutions over spikes on tensors."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from ..constant_weights import derive_once
from .kernels.event_convolution import forward_kernel, input_grad_kernel, narrow_forward_kernel, weight_grad_kernel
from .kernels.rows import LANES, MAX_VECTORS, SLACK
from .launch import Field, Plan, launch

# Neither depends on the number of threads, so that sums do not.
_ITEMS, _CACHE_BYTES = 64, 1_250_000
_CHUNK_BYTES, _TILE_BYTES = 160_000, 44_000


def forward(bits: Tensor, shape: Sequence[int], weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """Return the convolution ``[T * N, K, H / stride, W / stride]``, channels-last, of spikes ``[T * N, C, H, W]``.

    The bits ``[T, row]`` of the spikes are in channels-last order.
    """
    images, channels, _, width = shape
    outputs, _, kernel, _ = weight.shape
    fields, word, out_height, out_width = _geometry(bits, shape, weight, stride)
    out = weight.new_empty(images, out_height, out_width, outputs)
    lines = images * out_height
    group = max(1, lines // _ITEMS)
    groups = -(-lines // group)
    first = weight.new_zeros(outputs) if bias is None else bias.detach().contiguous()
    if (kernel, stride, channels) == (3, 1, LANES) and outputs <= 2 * LANES:
        quads = weight.detach().permute(1, 2, 3, 0).reshape(channels // 4, 1, 4, 9 * outputs)
        # Not a matrix product, which the measurement of energy would count.
        table = (_values()[..., None] * quads).sum(2)
        zero = torch.zeros(width, dtype=torch.int64)
        fields |= {"out": out, "weights": table, "zero": zero, "first": first}
        plan = Plan(lines, 1, channels, groups, group)
        launch(narrow_forward_kernel(outputs // LANES, word), plan, 32, fields)
        return out.permute(0, 3, 1, 2)
    rows = derive_once(weight, _weight_rows)
    # The weights of a block should stay in the L2 cache.
    vectors = _vectors(outputs, _CACHE_BYTES // (4 * LANES * kernel * kernel * channels))
    fields |= {"out": out, "weights": rows, "zero": rows[-1], "first": first}
    plan = Plan(lines, 1, channels, groups * outputs // (LANES * vectors), group)
    workspace = 2 * (width + 1) + kernel * width * channels + SLACK
    launch(forward_kernel(vectors, word), plan, -(-workspace // 32) * 32, fields)
    return out.permute(0, 3, 1, 2)


def _weight_rows(weight: Tensor) -> Tensor:
    """Return the weights of each tap and input channel, ``[kernel * kernel * C + 1, K]``; the last row is 0."""
    rows = weight.new_empty(weight[0].numel() + 1, len(weight))
    rows[:-1].copy_(_taps_last(weight.detach()).t())
    rows[-1] = 0
    return rows


def weight_grad(bits: Tensor, shape: Sequence[int], grad: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Return the gradient of the weights of :func:`forward`, in their memory layout, from that of the output."""
    images, channels = shape[:2]
    outputs, _, kernel, _ = weight.shape
    fields, word, out_height, out_width = _geometry(bits, shape, weight, stride)
    border = kernel // 2
    pitch = out_width + border
    vectors = _vectors(outputs, 4)
    row_bytes = 4 * LANES * vectors
    lines = images * (out_height + border)
    parts = channels // word * (outputs // (LANES * vectors))
    chunk, group, groups = _chunks(lines, border, row_bytes * pitch, parts)
    partials = weight.new_zeros(groups, kernel, kernel, channels, outputs)
    result = torch.empty_like(weight)
    # One group is large: the kernel writes it to the result while it is in the cache.
    direct = groups == 1 and result.is_contiguous(memory_format=torch.channels_last)
    list_bytes = 4 * (-(-chunk * pitch // 64) * 64 + SLACK)
    fields |= {
        "grad": grad, "partials": partials, "zero": weight.new_zeros(outputs), "chunk_rows": chunk,
        "list_bytes": list_bytes, "out": result if direct else None,
    }  # fmt: skip
    plan = Plan(lines, 1, channels, groups * parts, group)
    space = 512 * -(-chunk * pitch // 64) + list_bytes + row_bytes * ((chunk + 2 * border) * pitch + border)
    launch(weight_grad_kernel(vectors, word), plan, -(-space // 128) * 32, fields)
    if direct:
        return result
    total = partials.sum(0)
    if result.is_contiguous(memory_format=torch.channels_last):
        # A transposed copy of two axes is faster than that of four.
        _taps_last(result).copy_(total.view(-1, outputs).t())
        return result
    return result.copy_(total.permute(3, 2, 0, 1))


def input_grad(support: Tensor, shape: Sequence[int], grad: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Return the gradient of the input of :func:`forward`, channels-last, in its support (bits); it is 0 elsewhere."""
    images, channels, height, width = shape
    outputs, _, kernel, _ = weight.shape
    fields, word, out_height, out_width = _geometry(support, shape, weight, stride)
    border = kernel // 2
    pitch = out_width + border
    # A dot product of few taps should have long rows: adding its lanes takes as long as some rows.
    vectors = _vectors(outputs, 4 if kernel > 2 * stride else 8)
    row_bytes = 4 * LANES * vectors
    lines = images * (out_height + border)
    chunk, group, groups = _chunks(lines, border, row_bytes * pitch, channels // word)
    blocks = -(-chunk * pitch // 64)
    tile = max(1, min(blocks, (_TILE_BYTES // row_bytes - 2 * border * (pitch + 1)) // 64))
    list_bytes = -(-4 * (64 * tile + SLACK) // 128) * 128
    out = weight.new_empty(images, height, width, channels)
    fields |= {
        "grad": grad, "weights": _taps_last(weight.detach()).t().contiguous(), "out": out,
        "zero": weight.new_zeros(LANES), "chunk_rows": chunk, "tile_blocks": tile, "list_bytes": list_bytes,
    }  # fmt: skip
    plan = Plan(lines, 1, channels, groups * (channels // word), group)
    space = 1024 * blocks + 4 * kernel * kernel * (LANES + word * outputs) + list_bytes
    space += row_bytes * ((chunk + 2 * border) * pitch + border)
    launch(input_grad_kernel(vectors, word), plan, -(-space // 128) * 32, fields)
    return out.permute(0, 3, 1, 2)


def _chunks(lines: int, border: int, line_bytes: int, parts: int) -> tuple[int, int, int]:
    """Return the rows of a chunk, whose gradient fits the L2 cache, the rows of a group of chunks, and the groups."""
    chunk = min(lines, max(2, _CHUNK_BYTES // line_bytes - 2 * border))
    groups = max(1, min(16 // parts, lines // chunk))
    group = -(-lines // (groups * chunk)) * chunk
    return chunk, group, -(-lines // group)


def _taps_last(weight: Tensor) -> Tensor:
    """Return ``[K, kernel * kernel * C]``: a view of weights in channels-last memory."""
    return weight.permute(0, 2, 3, 1).reshape(weight.shape[0], -1)


@cache
def _values() -> Tensor:
    """Return the bits of every value of 4 bits, ``[16, 4]``."""
    # The kernel takes its address, and defaults of dtype and device may be others.
    bits = [[float(value >> i & 1) for i in range(4)] for value in range(16)]
    return torch.tensor(bits, dtype=torch.float32, device="cpu")


def _vectors(outputs: int, limit: int) -> int:
    """Return the vectors of a block of outputs: at most ``limit``, and a divisor of all."""
    count = outputs // LANES
    return max(v for v in range(1, max(1, min(limit, MAX_VECTORS)) + 1) if count % v == 0)


def _geometry(
    bits: Tensor, shape: Sequence[int], weight: Tensor, stride: int
) -> tuple[dict[str, Field], int, int, int]:
    """Return the parameters of both kernels, the bits of a word, and the height and width of the output."""
    images, channels, height, width = shape
    out_height, out_width = -(-height // stride), -(-width // stride)
    fields: dict[str, Field] = {
        "bits": bits, "bits_stride": bits.shape[1], "batch": images // bits.shape[0],
        "image_bytes": height * width * channels // 8, "outputs": weight.shape[0], "kernel": weight.shape[2],
        "conv_stride": stride, "height": height, "width": width, "out_height": out_height, "out_width": out_width,
    }  # fmt: skip
    return fields, min(channels & -channels, 64), out_height, out_width
