"""Time a 3x3 convolution over spikes whose cost follows the number of spikes, next to PyTorch's dense one.

    python studies/event_convolution.py

The forward pass alone, as an experiment in numba and LLVM: stride 1, padding 1, channels last, and binary spikes as the
bits of ``shortcut_snn.neurons.packing``. One core.

- Wide layers gather. For each image the indices of every pixel's spikes are listed once. An output pixel then adds the
  rows of the weights ``[9, C, K]`` that belong to the spikes of its nine inputs. Up to 8 vectors of 16 output channels
  stay in registers meanwhile.
- Narrow layers (16 or 32 outputs) scatter. A spike adds its nine rows of ``[C, 9, K]`` to the nine outputs around its
  pixel, which stay in registers. The bits are read as they are, without a list of indices.

The wide case is bound by loads: a spike costs K / 16 loads of weights for each of nine outputs. The copy of the weights
is not counted: 0.006 to 0.9 ms for 16 to 256 channels.
"""

import time
from functools import cache
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import carray, cfunc, from_dtype, njit, types
from numba.extending import intrinsic

from shortcut_snn.neurons.cpu.kernels.memory import pointer

LANES = 16  # float32 numbers of a vector: one register of AVX-512, two of AVX2, four of NEON
_F32, _I64, _I16 = ir.FloatType(), ir.IntType(64), ir.IntType(16)
_VECTOR = ir.VectorType(_F32, LANES)


@intrinsic
def trailing_zeros(typingctx: Any, word: Any) -> Any:
    """Return the index of the lowest bit that is set."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen


def vector_at(builder: Any, base: Any, offset: Any) -> Any:
    """Return a pointer to the vector that starts at an offset."""
    return builder.bitcast(builder.gep(base, [offset]), _VECTOR.as_pointer())


def add_rows(builder: Any, sums: list[Any], offsets: list[int], state: Any, more: Any, step: Any) -> list[Any]:
    """Append a loop that adds rows of the weights to the sums, which stay in registers.

    ``state`` is what the loop starts with, ``more(state)`` whether a spike is left, and ``step(state)`` the row of the
    weights of the next spike and the state after it. A row has one vector at each offset.
    """
    start = builder.block
    loop, end = builder.append_basic_block("spikes"), builder.append_basic_block("after")
    builder.cbranch(more(state), loop, end)
    builder.position_at_end(loop)
    current = builder.phi(_I64)
    running = [builder.phi(_VECTOR) for _ in sums]
    base, following = step(current)
    added = [
        builder.fadd(value, builder.load(vector_at(builder, base, _I64(offset)), align=4))
        for value, offset in zip(running, offsets, strict=True)
    ]
    current.add_incoming(state, start)
    current.add_incoming(following, loop)
    for phi, before, after in zip(running, sums, added, strict=True):
        phi.add_incoming(before, start)
        phi.add_incoming(after, loop)
    builder.cbranch(more(following), loop, end)
    builder.position_at_end(end)
    finals = [builder.phi(_VECTOR) for _ in sums]
    for final, before, after in zip(finals, sums, added, strict=True):
        final.add_incoming(before, start)
        final.add_incoming(after, loop)
    return finals


def add_listed(
    builder: Any, sums: list[Any], offsets: list[int], weights: Any, row: Any, indices: Any, n: Any
) -> list[Any]:
    """Add the rows at the n indices of a list."""

    def step(i: Any) -> tuple[Any, Any]:
        index = builder.zext(builder.load(builder.gep(indices, [i])), _I64)
        return builder.gep(weights, [builder.mul(index, row)]), builder.add(i, _I64(1))

    return add_rows(builder, sums, offsets, _I64(0), lambda i: builder.icmp_signed("<", i, n), step)


def add_bits(builder: Any, sums: list[Any], offsets: list[int], weights: Any, row: Any, word: Any) -> list[Any]:
    """Add the rows at the set bits of a word."""

    def step(bits: Any) -> tuple[Any, Any]:
        index = builder.cttz(bits, ir.Constant(ir.IntType(1), 1))
        return builder.gep(weights, [builder.mul(index, row)]), builder.and_(bits, builder.sub(bits, _I64(1)))

    return add_rows(builder, sums, offsets, word, lambda bits: builder.icmp_signed("!=", bits, _I64(0)), step)


def make_gather(vectors: int) -> Any:
    """Make ``gather(out, weights, row, tap, indices, counts, pitch, channels)``: one output pixel.

    ``indices`` and ``counts`` start at the input pixel above and left of it, in an image with a border of pixels
    without spikes; ``pitch`` pixels are a row. A tap's weights are ``tap`` numbers.
    """

    @intrinsic
    def gather(
        typingctx: Any, out: Any, weights: Any, row: Any, tap: Any, indices: Any, counts: Any, pitch: Any, channels: Any
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            out_at, weights_at, row_size, tap_size, indices_at, counts_at, row_pixels, c = args
            sums = [ir.Constant(_VECTOR, None)] * vectors
            offsets = [v * LANES for v in range(vectors)]
            for ky in range(3):
                for kx in range(3):
                    pixel = builder.add(builder.mul(row_pixels, _I64(ky)), _I64(kx))
                    sums = add_listed(
                        builder, sums, offsets, builder.gep(weights_at, [builder.mul(tap_size, _I64(ky * 3 + kx))]),
                        row_size, builder.gep(indices_at, [builder.mul(pixel, c)]),
                        builder.load(builder.gep(counts_at, [pixel])),
                    )  # fmt: skip
            for offset, value in zip(offsets, sums, strict=True):
                builder.store(value, vector_at(builder, out_at, _I64(offset)), align=4)
            return context.get_dummy_value()

        i64 = types.int64
        return types.none(out, weights, i64, i64, indices, counts, i64, i64), codegen

    return gather


def make_scatter(vectors: int) -> Any:
    """Make ``scatter(above, same, below, weights, bits, width)``: one row of input pixels, one word of bits each.

    It adds to three rows of outputs, whose first pixel is left of the image. The weights are ``[C, 9, K]``. The nine
    outputs of a pixel stay in registers; a row moves through them.
    """
    lanes = vectors * LANES

    @intrinsic
    def scatter(typingctx: Any, above: Any, same: Any, below: Any, weights: Any, bits: Any, width: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            *rows, weights_at, bits_at, pixels = args
            places = [(j, v) for j in range(3) for v in range(vectors)]

            def place(j: int, v: int, pixel: Any) -> Any:
                return vector_at(builder, rows[j], builder.add(builder.mul(pixel, _I64(lanes)), _I64(v * LANES)))

            entry = builder.block
            first = [[builder.load(place(j, v, _I64(q)), align=4) for j, v in places] for q in (0, 1)]
            loop, end = builder.append_basic_block("pixels"), builder.append_basic_block("row_done")
            builder.branch(loop)
            builder.position_at_end(loop)
            x = builder.phi(_I64)
            kept = [[builder.phi(_VECTOR) for _ in places] for _ in range(2)]
            last = [builder.load(place(j, v, builder.add(x, _I64(2))), align=4) for j, v in places]
            sums, offsets = [], []
            for q, column in enumerate((*kept, last)):
                for (j, v), value in zip(places, column, strict=True):
                    sums.append(value)
                    offsets.append(((2 - j) * 3 + (2 - q)) * lanes + v * LANES)
            word = builder.load(builder.gep(bits_at, [x]))
            word = word if word.type == _I64 else builder.zext(word, _I64)
            sums = add_bits(builder, sums, offsets, weights_at, _I64(9 * lanes), word)
            size = len(places)
            for (j, v), value in zip(places, sums[:size], strict=True):
                builder.store(value, place(j, v, x), align=4)
            following = builder.add(x, _I64(1))
            x.add_incoming(_I64(0), entry)
            x.add_incoming(following, builder.block)
            for column in range(2):
                for phi, before, after in zip(
                    kept[column], first[column], sums[(column + 1) * size : (column + 2) * size], strict=True
                ):
                    phi.add_incoming(before, entry)
                    phi.add_incoming(after, builder.block)
            builder.cbranch(builder.icmp_signed("<", following, pixels), loop, end)
            builder.position_at_end(end)
            for q in range(2):
                for (j, v), value in zip(places, sums[(q + 1) * size : (q + 2) * size], strict=True):
                    builder.store(value, place(j, v, builder.add(pixels, _I64(q))), align=4)
            return context.get_dummy_value()

        return types.none(above, same, below, weights, bits, types.int64), codegen

    return scatter


POINTERS = ("bits", "weights", "out", "indices", "counts", "rows")
SIZES = ("images", "height", "width", "channels", "outputs", "bits_image")
PARAMS = np.dtype([(name, np.int64) for name in (*POINTERS, *SIZES)])


@njit(inline="always")
def list_spikes(
    bits: Any, word: int, words: int, index_array: Any, count_array: Any, height: int, width: int, channels: int
) -> None:
    """Write the indices and counts of the spikes of every pixel, in an image with a border."""
    for y in range(height):
        for x in range(width):
            pixel, target = y * width + x, (y + 1) * (width + 2) + x + 1
            count, first = 0, target * channels
            for w in range(words):
                value = np.int64(bits[pixel * words + w])
                while value != 0:
                    index_array[first + count] = w * word + trailing_zeros(value)
                    count += 1
                    value &= value - 1
            count_array[target] = count


@cache
def forward_kernel(vectors: int, word: int, narrow: bool) -> Any:
    """Compile the kernel for blocks of ``vectors`` vectors of output channels, and bits read in words of this size."""
    gather, scatter = make_gather(vectors), make_scatter(vectors)
    block = vectors * LANES
    kind = {16: types.uint16, 32: types.uint32, 64: types.int64}[word]

    def forward(params: Any) -> None:
        p = carray(params, 1)[0]
        height, width, channels, outputs = p.height, p.width, p.channels, p.outputs
        pitch, words = width + 2, channels // word
        index_array = carray(pointer(p.indices, types.uint16), (height + 2) * pitch * channels)
        count_array = carray(pointer(p.counts, types.int64), (height + 2) * pitch)
        for n in range(p.images):
            bits = carray(pointer(p.bits + n * p.bits_image, kind), height * width * words)
            if not narrow:
                list_spikes(bits, word, words, index_array, count_array, height, width, channels)
            image = p.out + 4 * n * height * width * outputs
            if narrow:
                size = pitch * outputs
                row_array = carray(pointer(p.rows, types.float32), 3 * size)
                for v in range(3 * size):
                    row_array[v] = np.float32(0.0)
                for y in range(height):
                    for v in range(size):
                        row_array[(y + 2) % 3 * size + v] = np.float32(0.0)
                    scatter(
                        pointer(p.rows + 4 * (y % 3 * size), types.float32),
                        pointer(p.rows + 4 * ((y + 1) % 3 * size), types.float32),
                        pointer(p.rows + 4 * ((y + 2) % 3 * size), types.float32),
                        pointer(p.weights, types.float32),
                        pointer(p.bits + n * p.bits_image + y * width * word // 8, kind), width,
                    )  # fmt: skip
                    for done in range(y - 1, y + 1 if y == height - 1 else y):
                        if done >= 0:
                            target = carray(pointer(image + 4 * done * width * outputs, types.float32), width * outputs)
                            source = (done + 1) % 3 * size + outputs
                            for v in range(width * outputs):
                                target[v] = row_array[source + v]
            else:
                for start in range(0, outputs, block):
                    for y in range(height):
                        for x in range(width):
                            first = y * pitch + x
                            gather(
                                pointer(image + 4 * ((y * width + x) * outputs + start), types.float32),
                                pointer(p.weights + 4 * start, types.float32), outputs, channels * outputs,
                                pointer(p.indices + 2 * first * channels, types.uint16),
                                pointer(p.counts + 8 * first, types.int64), pitch, channels,
                            )  # fmt: skip

    return cfunc(types.void(types.CPointer(from_dtype(PARAMS))), error_model="numpy", boundscheck=False)(forward)


def convolve(bits: torch.Tensor, weights: torch.Tensor, n: int, height: int, width: int) -> torch.Tensor:
    """Return the convolution ``[N, H, W, K]`` of spikes whose bits are ``[N, row]``.

    The weights are ``[9, C, K]``, or ``[C, 9, K]`` for up to 32 output channels and 16, 32 or 64 input channels.
    """
    narrow = weights.shape[1] == 9
    channels, outputs = (weights.shape[0] if narrow else weights.shape[1]), weights.shape[2]
    kernel = forward_kernel(min(outputs // LANES, 8), channels if narrow else min(channels & -channels, 64), narrow)
    out, area = torch.empty(n, height, width, outputs), (height + 2) * (width + 2)
    indices, counts = torch.empty(area * channels, dtype=torch.int16), torch.zeros(area, dtype=torch.int64)
    rows = torch.empty(3 * (width + 2) * outputs)
    params = np.zeros(1, PARAMS)
    for name, value in {
        "bits": bits.data_ptr(), "weights": weights.data_ptr(), "out": out.data_ptr(), "indices": indices.data_ptr(),
        "counts": counts.data_ptr(), "rows": rows.data_ptr(), "images": n, "height": height, "width": width,
        "channels": channels, "outputs": outputs, "bits_image": bits.shape[1],
    }.items():  # fmt: skip
        params[name] = value
    kernel.ctypes(params.ctypes.data)
    return out


def packed(spikes: torch.Tensor) -> torch.Tensor:
    """Return the bits of ``[N, H, W, C]``, 64-bit words for each image."""
    flat = spikes.flatten(1).numpy()
    bits = np.packbits(flat, axis=1, bitorder="little")
    pad = -bits.shape[1] % 8
    return torch.from_numpy(np.pad(bits, ((0, 0), (0, pad))))


def seconds(run: Any, rounds: int) -> float:
    """Return the least processor time of a call."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def compare(n: int, size: int, channels: int, outputs: int, rate: float, rounds: int = 7) -> None:
    """Print the time of both convolutions for one layer and firing rate, and the error of each against float64."""
    torch.manual_seed(0)
    spikes = torch.rand(n, size, size, channels) < rate
    dense = spikes.float().permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    weight = 0.1 * torch.randn(outputs, channels, 3, 3)
    rows = weight.permute(2, 3, 1, 0).reshape(9, channels, outputs).contiguous()
    if outputs <= 32:
        rows = rows.movedim(0, 1).contiguous()
    layout = weight.contiguous(memory_format=torch.channels_last)
    bits = packed(spikes)
    with torch.no_grad():
        want = torch.nn.functional.conv2d(dense, layout, padding=1)
        got = convolve(bits, rows, n, size, size)
        exact = torch.nn.functional.conv2d(dense.double(), layout.double(), padding=1)
        error, theirs_error = ((x.double() - exact).abs().max().item() for x in (got.permute(0, 3, 1, 2), want))
        times: list[list[float]] = [[], []]
        for _ in range(rounds):
            times[0].append(seconds(lambda: convolve(bits, rows, n, size, size), 1))
            times[1].append(seconds(lambda: torch.nn.functional.conv2d(dense, layout, padding=1), 1))
    ours, theirs = min(times[0]), min(times[1])
    print(
        f"{channels:4d} -> {outputs:4d}, {size} px, rate {rate:.2f}: {ours * 1e3:7.2f} ms, "
        f"dense {theirs * 1e3:7.2f} ms, ratio {ours / theirs:.2f}, error {error:.0e} (dense {theirs_error:.0e})",
        flush=True,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    cases = [(16, 32, 64, 64), (16, 16, 128, 128), (16, 8, 256, 256), (64, 16, 32, 32), (64, 32, 16, 16)]
    for rate in (0.05, 0.1, 0.2):
        for case in cases:
            compare(*case, rate)
