"""The kernels of convolutions over spikes: the forward pass, and the gradients of the weights and of the input.

They read spikes as bits, with the channels of a pixel next to one another, and add rows (see :mod:`.rows`). Kernels are
square with an odd size, padded to outputs of ``ceil(size / stride)``. A *word* is the bits of up to 64 channels.

Forward, for each row of output pixels:

1. List the spikes of the rows of input pixels that it sees, column by column. A list entry is the offset of a spike's
   row in the weights ``[kernel, kernel, C, K]``, as if they began at the first column of the image.
2. The spikes of an output pixel are the entries of ``kernel`` columns, which lie next to one another. Add their rows.

Weight gradient, for each word of channels, block of outputs and some rows of pixels:

1. Copy the output gradient to a workspace, with zeros around it.
2. Transpose the bits, and list for each channel the pixels where it fires.
3. For each channel and tap, add the rows of the gradient at these pixels, shifted by the tap.

Input gradient, for each word of channels and some rows of pixels. It is computed where the bits of a *support* are set,
and is 0 elsewhere:

1. Copy the weights, each channel's next to one another, and as above the output gradient, by blocks of outputs.
2. Transpose the bits, and list for each channel the pixels in its support, a tile of pixels at a time.
3. For each pixel, add the dot products of the channel's weights with the rows of the gradient that the taps see.

With a stride, input pixels fall into ``stride * stride`` classes, and each tap sees one of them.
"""

from functools import cache
from typing import Any

from numba import carray, types

from .build import kernel, loop
from .memory import atomic_fetch_add, pointer, shifted
from .rows import LANES, PIXELS, copy_vector, make_dot_rows, make_list_bits, make_look_up, make_sum_rows, transpose_bits

# Placeholders: build.kernel binds generated functions to these names. In a closure they would be part of the key of
# numba's cache, and a generated intrinsic has another key in every process.
list_bits: Any = None
sum_rows: Any = None
look_up: Any = None
dot_rows: Any = None
dot_rest: Any = None
_WORDS = {16: types.uint16, 32: types.uint32, 64: types.int64}


@cache
def forward_kernel(vectors: int, word: int) -> int:
    """Return the address of the kernel for blocks of ``vectors`` vectors of outputs, and words of this many bits.

    It reads bits, weights and first ``[K]``, the sum before the first spike, and writes out ``[N, H, W, K]``.
    """
    kind = _WORDS[word]

    def forward(params: Any) -> None:
        p = carray(params, 1)[0]
        space = p.workspace + atomic_fetch_add(p.next_thread) * p.thread_bytes
        starts = carray(pointer(space, types.int64), p.width + 1)
        offsets = pointer(space + 8 * (p.width + 1), types.int32)
        channels, row_bytes, size = p.channels, 4 * p.outputs, p.kernel
        groups = -(-p.elements // p.item_size)
        item = atomic_fetch_add(p.next_item)
        while item < p.items:
            # The block of outputs is the outer loop: its weights should stay in the cache.
            block, group = 4 * LANES * vectors * (item // groups), item % groups
            for row in range(group * p.item_size, min((group + 1) * p.item_size, p.elements)):
                n, y = row // p.out_height, row % p.out_height
                image = p.bits + n // p.batch * p.bits_stride + n % p.batch * p.image_bytes
                count = 0
                for x in range(p.width):
                    starts[x] = count
                    for ky in range(size):
                        above = y * p.conv_stride + ky - size // 2
                        if above >= 0 and above < p.height:
                            words = pointer(image + (above * p.width + x) * channels // 8, kind)
                            for w in range(channels // word):
                                base = ((ky * size + x) * channels + w * word) * row_bytes
                                value = types.int64(carray(shifted(words, w), 1)[0])
                                count = list_bits(offsets, count, value, types.int32(base), types.int32(row_bytes))
                starts[p.width] = count
                for x in range(p.out_width):
                    left = x * p.conv_stride - size // 2
                    start, end = starts[max(left, 0)], starts[min(left + size, p.width)]
                    sum_rows(
                        pointer(p.out + (row * p.out_width + x) * row_bytes + block, types.float32),
                        pointer(p.first + block, types.float32),
                        pointer(p.weights + block - left * channels * row_bytes, types.float32),
                        pointer(p.zero, types.float32), shifted(offsets, start), end - start,
                    )  # fmt: skip
            item = atomic_fetch_add(p.next_item)

    return kernel(forward, {"list_bits": make_list_bits(word), "sum_rows": make_sum_rows(vectors)})


@cache
def narrow_forward_kernel(vectors: int, word: int) -> int:
    """Return the address of the kernel for 3x3 convolutions of stride 1 with few channels: one word, one block.

    It reads the table of :func:`~.rows.make_look_up` as weights, and bits and first ``[K]``, and writes out. Its time
    does not depend on the spikes.
    """
    kind, row_bytes = _WORDS[word], 4 * LANES * vectors

    def forward(params: Any) -> None:
        p = carray(params, 1)[0]
        spare = pointer(p.workspace + atomic_fetch_add(p.next_thread) * p.thread_bytes, types.float32)
        line = p.width * word // 8
        item = atomic_fetch_add(p.next_item)
        while item < p.items:
            for row in range(item * p.item_size, min((item + 1) * p.item_size, p.elements)):
                n, y = row // p.height, row % p.height
                same = p.bits + n // p.batch * p.bits_stride + n % p.batch * p.image_bytes + y * line
                above, below = same - line if y > 0 else p.zero, same + line if y + 1 < p.height else p.zero
                look_up(
                    pointer(p.out + row * p.width * row_bytes, types.float32), pointer(p.first, types.float32), spare,
                    pointer(p.weights, types.float32), pointer(above, kind), pointer(same, kind),
                    pointer(below, kind), p.width,
                )  # fmt: skip
            item = atomic_fetch_add(p.next_item)

    return kernel(forward, {"look_up": make_look_up(vectors, word)})


@loop
def _copy_grads(p: Any, grads: int, first: int, rows: int, block: int, row_bytes: int) -> None:
    """Copy a block of the output gradient, some rows of pixels and those around them, with zeros between images.

    Two images of 2 x 3 pixels for a kernel of 3, a border of 1. Each letter is a row of ``row_bytes``, and 0 is zeros::

        0 0 0 0      the row before the first
        0 a b c
        0 d e f
        0 0 0 0      below the first image, and above the second
        0 g h i
        0 j k l
        0 0 0 0
        0            the pixel to the right of the last one

    The neighbour of any pixel for any tap is then at a constant distance, and outside of its image it is 0.
    """
    border, image_rows = p.kernel // 2, p.out_height + p.kernel // 2
    zero = pointer(p.zero, types.float32)
    for row in range(first - border, first + rows + border):
        n, y = row // image_rows, row % image_rows
        inside = row >= 0 and row < p.elements and y < p.out_height
        source = p.grad + (n * p.out_height + y) * p.out_width * 4 * p.outputs + block
        # The columns of zeros are to the left, and after the last row.
        for x in range(-border, p.out_width):
            for at in range(0, row_bytes, 4 * LANES):
                target = pointer(grads + at, types.float32)
                if inside and x >= 0:
                    copy_vector(target, pointer(source + x * 4 * p.outputs + at, types.float32))
                else:
                    copy_vector(target, zero)
            grads += row_bytes
    for at in range(0, border * row_bytes, 4 * LANES):
        copy_vector(pointer(grads + at, types.float32), zero)


@loop
def _read_columns(p: Any, space: int, kind: Any, channel: int, first: int, rows: int, down: int, across: int) -> int:
    """Read the bits of a word of channels at one class of input pixels; return the number of blocks of 64 pixels.

    A block has one word of 64 bits for each channel, with the bits of the pixels.
    """
    border, stride = p.kernel // 2, p.conv_stride
    image_rows, pitch = p.out_height + border, p.out_width + border
    words = carray(pointer(space, types.int64), 64 * (rows * pitch // 64 + 1))
    i = 0
    for row in range(first, first + rows):
        n, y = row // image_rows, row % image_rows * stride + down
        image = p.bits + n // p.batch * p.bits_stride + n % p.batch * p.image_bytes
        line = image + (y * p.width * p.channels + channel) // 8
        for x in range(across, across + pitch * stride, stride):
            words[i] = 0
            if y < p.height and x < p.width:
                words[i] = types.int64(carray(pointer(line + x * p.channels // 8, kind), 1)[0])
            i += 1
    filled = -(-i // 64)
    words[i : 64 * filled] = 0
    for b in range(filled):
        transpose_bits(pointer(space + 512 * b, types.int64))
    return filled


@cache
def weight_grad_kernel(vectors: int, word: int) -> int:
    """Return the address of the kernel for blocks of ``vectors`` vectors of outputs, and words of this many bits.

    It reads bits and grad ``[N, H, W, K]``, and adds to partials ``[groups, kernel, kernel, C, K]``. If out ``[K,
    kernel, kernel, C]`` is given, it also writes the only group there.
    """
    kind, row_bytes = _WORDS[word], 4 * LANES * vectors

    def weight_grad(params: Any) -> None:
        p = carray(params, 1)[0]
        size, stride, border, channels = p.kernel, p.conv_stride, p.kernel // 2, p.channels
        # Rows and columns of zeros separate images and rows.
        pitch = p.out_width + border
        blocks = -(-p.chunk_rows * pitch // 64)
        space = p.workspace + atomic_fetch_add(p.next_thread) * p.thread_bytes
        words = carray(pointer(space, types.int64), 64 * blocks)
        offsets = pointer(space + 512 * blocks, types.int32)
        grads = space + 512 * blocks + p.list_bytes
        zero = pointer(p.zero, types.float32)
        per_group = channels // word * (p.outputs // (LANES * vectors))
        item = atomic_fetch_add(p.next_item)
        while item < p.items:
            group, part = item // per_group, item % per_group
            channel, block = part % (channels // word) * word, part // (channels // word) * row_bytes
            target = p.partials + 4 * (group * size * size * channels + channel) * p.outputs + block
            for first in range(group * p.item_size, min((group + 1) * p.item_size, p.elements), p.chunk_rows):
                rows = min(p.chunk_rows, p.elements - first)
                _copy_grads(p, grads, first, rows, block, row_bytes)
                for odd in range(stride * stride):
                    down, across = odd // stride, odd % stride
                    filled = _read_columns(p, space, kind, channel, first, rows, down, across)
                    for c in range(word):
                        count = 0
                        for b in range(filled):
                            base = types.int32(64 * b * row_bytes)
                            count = list_bits(offsets, count, words[64 * b + c], base, types.int32(row_bytes))
                        for ky in range((down + border) % stride, size, stride):
                            below = border + (down + border - ky) // stride
                            for kx in range((across + border) % stride, size, stride):
                                right = border + (across + border - kx) // stride
                                total = pointer(
                                    target + 4 * ((ky * size + kx) * channels + c) * p.outputs, types.float32
                                )
                                source = grads + (below * pitch + right) * row_bytes
                                sum_rows(total, total, pointer(source, types.float32), zero, offsets, count)
            if p.out != 0:
                sums = carray(pointer(target, types.float32), size * size * channels * p.outputs)
                for k in range(LANES * vectors):
                    for tap in range(size * size):
                        at = p.out + 4 * (((block // 4 + k) * size * size + tap) * channels + channel)
                        line = carray(pointer(at, types.float32), word)
                        for c in range(word):
                            line[c] = sums[(tap * channels + c) * p.outputs + k]
            item = atomic_fetch_add(p.next_item)

    return kernel(weight_grad, {"list_bits": make_list_bits(64), "sum_rows": make_sum_rows(vectors)})


@loop
def _copy_weights(p: Any, target: int, channel: int, word: int, row_bytes: int) -> None:
    """Copy the weights of a word of channels as ``[channel, block, tap, row]``, with the taps of a class together."""
    size, stride, border = p.kernel, p.conv_stride, p.kernel // 2
    taps, row, written = size * size * row_bytes, 4 * p.outputs, 0
    for odd in range(stride * stride):
        for ky in range((odd // stride + border) % stride, size, stride):
            for kx in range((odd % stride + border) % stride, size, stride):
                for c in range(word):
                    source = p.weights + ((ky * size + kx) * p.channels + channel + c) * row
                    for block in range(row // row_bytes):
                        to = target + (c * row // row_bytes + block) * taps + written
                        for at in range(0, row_bytes, 4 * LANES):
                            vector = pointer(source + block * row_bytes + at, types.float32)
                            copy_vector(pointer(to + at, types.float32), vector)
                written += row_bytes


@loop
def _clear(p: Any, channel: int, word: int, first: int, rows: int) -> None:
    """Set the gradient of a word of channels to 0 at the input pixels of some rows."""
    image_rows = p.out_height + p.kernel // 2
    for row in range(first, first + rows):
        y = row % image_rows * p.conv_stride
        for below in range(y, min(y + p.conv_stride, p.height)):
            line = (row // image_rows * p.height + below) * p.width
            for x in range(p.width):
                at = p.out + 4 * ((line + x) * p.channels + channel)
                carray(pointer(at, types.float32), word)[:] = 0


@loop
def _set_class(p: Any, targets: Any, shifts: Any, first: int, rows: int, down: int, across: int, row_bytes: int) -> int:
    """Set the offsets of one class of input pixels in out, and the shifts of its taps; return the number of taps."""
    size, stride, border = p.kernel, p.conv_stride, p.kernel // 2
    image_rows, pitch = p.out_height + border, p.out_width + border
    taps = 0
    for ky in range((down + border) % stride, size, stride):
        below = border + (down + border - ky) // stride
        for kx in range((across + border) % stride, size, stride):
            shifts[taps] = (below * pitch + border + (across + border - kx) // stride) * row_bytes
            taps += 1
    if taps == 0:
        return 0
    i = 0
    for row in range(first, first + rows):
        line = (row // image_rows * p.height + row % image_rows * stride + down) * p.width
        for x in range(across, across + pitch * stride, stride):
            targets[i] = (line + x) * p.channels
            i += 1
    return taps


@cache
def input_grad_kernel(vectors: int, word: int) -> int:
    """Return the address of the kernel for blocks of ``vectors`` vectors of outputs, and words of this many bits.

    It reads the support as bits, grad ``[N, H, W, K]`` and weights ``[kernel, kernel, C, K]``, and writes out ``[N, H,
    W, C]``. The workspace of a thread is::

        words    int64 [pixels]               word 64 * b + c: the bits of channel c at the 64 pixels of block b
        targets  int64 [pixels]               the element of out of each pixel's first channel
        shifts   int64 [taps]                 from a pixel in grads to what a tap sees of it, in bytes
        weights  [word, blocks, taps, row]    of one word of channels, copied by _copy_weights
        grads    [rows, pitch, row]           of one block of outputs, with the zeros of _copy_grads
        numbers  int32 [tile], at the end     the pixels of a tile where channel c is in the support

    For pixel i of ``numbers``, the element of out at ``targets[i]`` plus the channel grows by the dot products of
    ``weights[c, block, tap]`` with the row of ``grads`` at ``i * row_bytes + shifts[tap]``.
    """
    kind, row_bytes = _WORDS[word], 4 * LANES * vectors

    def input_grad(params: Any) -> None:
        p = carray(params, 1)[0]
        stride, square, count_blocks = p.conv_stride, p.kernel * p.kernel, p.outputs // (LANES * vectors)
        pixels = 64 * -(-p.chunk_rows * (p.out_width + p.kernel // 2) // 64)
        space = p.workspace + atomic_fetch_add(p.next_thread) * p.thread_bytes
        words, targets_at = pointer(space, types.int64), pointer(space + 8 * pixels, types.int64)
        shifts_at = pointer(space + 16 * pixels, types.int64)
        # The shifts take less space than a vector for each tap.
        weights = space + 16 * pixels + square * 4 * LANES
        grads = weights + square * word * 4 * p.outputs
        numbers = pointer(space + p.thread_bytes - p.list_bytes, types.int32)
        all_words, targets, shifts = carray(words, pixels), carray(targets_at, pixels), carray(shifts_at, square)
        groups = -(-p.elements // p.item_size)
        item = atomic_fetch_add(p.next_item)
        while item < p.items:
            channel, group = item // groups * word, item % groups
            _copy_weights(p, weights, channel, word, row_bytes)
            for first in range(group * p.item_size, min((group + 1) * p.item_size, p.elements), p.chunk_rows):
                rows = min(p.chunk_rows, p.elements - first)
                _clear(p, channel, word, first, rows)
                for part in range(count_blocks * stride * stride):
                    block, odd = part // (stride * stride), part % (stride * stride)
                    if odd == 0:
                        _copy_grads(p, grads, first, rows, block * row_bytes, row_bytes)
                        read = 0
                    down, across = odd // stride, odd % stride
                    taps = _set_class(p, targets, shifts, first, rows, down, across, row_bytes)
                    filled = _read_columns(p, space, kind, channel, first, rows, down, across) if taps > 0 else 0
                    # The gradient that a tile reads stays in the L1 cache.
                    for tile in range(0, filled, p.tile_blocks):
                        for c in range(word):
                            count = 0
                            for b in range(tile, min(tile + p.tile_blocks, filled)):
                                bits = all_words[64 * b + c]
                                count = list_bits(numbers, count, bits, types.int32(64 * b), types.int32(1))
                            # Fill the last group with the last pixel.
                            listed = carray(numbers, count + PIXELS)
                            listed[count:] = listed[max(count - 1, 0)]
                            out = pointer(p.out + 4 * (channel + c), types.float32)
                            at = weights + ((c * count_blocks + block) * square + read) * row_bytes
                            rows_at, weights_at = pointer(grads, types.float32), pointer(at, types.float32)
                            i = 0
                            while i < count:
                                group_at = shifted(numbers, i)
                                if count - i > PIXELS // 2:
                                    dot_rows(out, targets_at, rows_at, group_at, shifts_at, weights_at, taps)
                                    i += PIXELS
                                else:
                                    dot_rest(out, targets_at, rows_at, group_at, shifts_at, weights_at, taps)
                                    i += PIXELS // 2
                    read += taps
            item = atomic_fetch_add(p.next_item)

    dots = {"dot_rows": make_dot_rows(vectors, PIXELS), "dot_rest": make_dot_rows(vectors, PIXELS // 2)}
    return kernel(input_grad, {"list_bits": make_list_bits(64), **dots})
