"""Sums of rows at listed offsets, and the lists: the inner loops of convolutions over spikes, as numba intrinsics.

A convolution over spikes adds rows: the forward pass rows of the weights, one for each spike that an output pixel sees;
the weight gradient rows of the output gradient, one for each pixel where a channel fires. A row is some vectors of
LANES float32 numbers, which stay in registers while a list is added. The input gradient is dot products of both rows.
"""

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

LANES = 16
"""Numbers of a vector: one register of AVX-512, two of AVX2, four of NEON."""
_FEATURES = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
AVX512, _COMPRESS = "+avx512f" in _FEATURES, "+avx512vbmi2" in _FEATURES
MAX_VECTORS = 8 if AVX512 else 4
"""The most vectors of a row that stay in registers."""
SLACK = LANES
"""Entries that may be written or read after the end of a list."""
PIXELS = 8 if AVX512 else 4
"""Dot products that are computed together: their sums stay in registers."""

_F32, _I64, _I32, _I8 = ir.FloatType(), ir.IntType(64), ir.IntType(32), ir.IntType(8)
_VECTOR, _OFFSETS = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES)
# As many sums as hide the latency of an addition: rows of few vectors are added to several sums in turn.
_CHAINS = 8 if AVX512 else 4


def _vectors(builder: Any, base: Any, count: int) -> list[Any]:
    """Return pointers to the vectors of a row."""
    first = builder.bitcast(base, _VECTOR.as_pointer())
    return [builder.gep(first, [_I64(v)]) for v in range(count)]


def _load(builder: Any, base: Any, count: int) -> list[Any]:
    return [builder.load(at, align=4) for at in _vectors(builder, base, count)]


def _store(builder: Any, base: Any, values: list[Any]) -> None:
    for at, value in zip(_vectors(builder, base, len(values)), values, strict=True):
        builder.store(value, at, align=4)


def _keep_rolled(builder: Any, branch: Any) -> None:
    """Keep LLVM from unrolling a loop once more: each remainder is a branch that the processor mispredicts."""
    disable = builder.module.add_metadata(["llvm.loop.unroll.disable"])
    loop = builder.module.add_metadata([disable])
    branch.set_metadata("llvm.loop", loop)


def _carry(phis: list[Any], before: list[Any], entry: Any, after: list[Any], loop: Any) -> None:
    """Give the values that a loop carries, or that follow it, their values from both blocks."""
    for phi, first, later in zip(phis, before, after, strict=True):
        phi.add_incoming(first, entry)
        phi.add_incoming(later, loop)


@cache
def make_sum_rows(vectors: int) -> Any:
    """Make ``sum_rows(out, first, rows, zero, offsets, n)``: ``out = first + rows[offsets[0]] + rows[offsets[1]] ...``.

    Offsets are int32 numbers of bytes from ``rows``. ``zero`` is a row of zeros.
    """
    unroll = next(u for u in (1, 2, 4, 8, 16) if u * vectors >= _CHAINS)

    def add(builder: Any, sums: list[Any], bases: list[Any]) -> list[Any]:
        loaded = [value for base in bases for value in _load(builder, base, vectors)]
        return [builder.fadd(a, b) for a, b in zip(sums, loaded, strict=True)]

    @intrinsic
    def sum_rows(typingctx: Any, out: Any, first: Any, rows: Any, zero: Any, offsets: Any, n: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            out_at, first_at, rows_at, zero_at, offsets_at, count = args
            rows_at, zero_at = (builder.bitcast(x, _I8.as_pointer()) for x in (rows_at, zero_at))

            def row(index: Any) -> Any:
                return builder.gep(rows_at, [builder.sext(builder.load(builder.gep(offsets_at, [index])), _I64)])

            start = [*_load(builder, first_at, vectors), *[ir.Constant(_VECTOR, None)] * (vectors * (unroll - 1))]
            whole = builder.and_(count, _I64(-unroll))
            entry, loop, end = builder.block, builder.append_basic_block("rows"), builder.append_basic_block("summed")
            builder.cbranch(builder.icmp_signed(">", whole, _I64(0)), loop, end)
            builder.position_at_end(loop)
            i, sums = builder.phi(_I64), [builder.phi(_VECTOR) for _ in start]
            added = add(builder, sums, [row(builder.add(i, _I64(u))) for u in range(unroll)])
            following = builder.add(i, _I64(unroll))
            _carry([i, *sums], [_I64(0), *start], entry, [following, *added], loop)
            again = builder.cbranch(builder.icmp_signed("<", following, whole), loop, end)
            _keep_rolled(builder, again)
            builder.position_at_end(end)
            totals = [builder.phi(_VECTOR) for _ in start]
            _carry(totals, start, entry, added, loop)
            # The last rows, without a branch that would be mispredicted: absent ones are the row of zeros.
            for u in range(unroll - 1):
                index = builder.add(whole, _I64(u))
                last = builder.select(builder.icmp_signed("<", index, count), row(index), zero_at)
                part = slice(u * vectors, (u + 1) * vectors)
                totals[part] = add(builder, totals[part], [last])
            for u in range(1, unroll):
                further = totals[u * vectors : (u + 1) * vectors]
                totals[:vectors] = [builder.fadd(a, b) for a, b in zip(totals[:vectors], further, strict=True)]
            _store(builder, out_at, totals[:vectors])
            return context.get_dummy_value()

        return types.none(out, first, rows, zero, offsets, types.int64), codegen

    return sum_rows


@cache
def make_look_up(vectors: int, word: int) -> Any:
    """Make ``look_up(out, first, spare, table, above, same, below, width)``: a row of outputs of a 3x3 convolution.

    It reads three rows of input pixels, one word of bits each. ``table [word / 4, 16, 3, 3, K]`` has the sum of the
    weights for every 4 channels and every value of their bits. Column x of the input adds to three outputs::

        above   . . [x] . .   ky = 0
        same    . . [x] . .   ky = 1     for each group g of 4 channels, v is the value of its 4 bits
        below   . . [x] . .   ky = 2
                     |
                     v
        table[g, v, ky]       kx = 0      kx = 1      kx = 2     three rows of K weights, next to one another
                                |           |           |
                                v           v           v
        out                 out[x + 1]   out[x]    out[x - 1]    sums[2], sums[1], sums[0]

    After column x, ``out[x - 1]`` is complete and written; the other two sums move one place to the left. They stay in
    registers, with a sum of their own for each of the three rows, so that additions overlap. What falls left of the
    image goes to ``spare``.
    """
    row_bytes = 4 * LANES * vectors
    kind = ir.IntType(word)

    @intrinsic
    def look_up(
        typingctx: Any, out: Any, first: Any, spare: Any, table: Any, above: Any, same: Any, below: Any, width: Any
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            out_at, first_at, spare_at, table_at, *rows, count = args
            out_at, spare_at, table_at = (builder.bitcast(x, _I8.as_pointer()) for x in (out_at, spare_at, table_at))
            start = _load(builder, first_at, vectors)
            zeros = [ir.Constant(_VECTOR, None)] * vectors

            def finish(target: Any, sums: list[list[Any]]) -> None:
                total = start
                for part in sums:
                    total = [builder.fadd(a, b) for a, b in zip(total, part, strict=True)]
                _store(builder, target, total)

            entry, loop, end = builder.block, builder.append_basic_block("pixels"), builder.append_basic_block("row")
            builder.branch(loop)
            builder.position_at_end(loop)
            x = builder.phi(_I64)
            # The sums of the outputs to the left and at the pixel, for each row.
            kept = [[[builder.phi(_VECTOR) for _ in range(vectors)] for _ in range(3)] for _ in range(2)]
            sums = [*kept, [zeros] * 3]
            sums = [list(column) for column in sums]
            for ky, row in enumerate(rows):
                bits = builder.load(builder.gep(builder.bitcast(row, kind.as_pointer()), [x]))
                bits = bits if word == 64 else builder.zext(bits, _I64)
                for group in range(word // 4):
                    value = builder.and_(builder.lshr(bits, _I64(4 * group)), _I64(15))
                    offset = builder.mul(value, _I64(9 * row_bytes))
                    base = builder.gep(table_at, [builder.add(offset, _I64((group * 16 * 9 + 3 * ky) * row_bytes))])
                    for column in range(3):
                        weights = _load(builder, builder.gep(base, [_I64((2 - column) * row_bytes)]), vectors)
                        sums[column][ky] = [builder.fadd(a, b) for a, b in zip(sums[column][ky], weights, strict=True)]
            left = builder.gep(out_at, [builder.mul(builder.sub(x, _I64(1)), _I64(row_bytes))])
            is_first = builder.icmp_signed("==", x, _I64(0))
            finish(builder.select(is_first, spare_at, left), sums[0])
            following = builder.add(x, _I64(1))
            _carry([x], [_I64(0)], entry, [following], loop)
            for column in range(2):
                for ky in range(3):
                    _carry(kept[column][ky], zeros, entry, sums[column + 1][ky], loop)
            builder.cbranch(builder.icmp_signed("<", following, count), loop, end)
            builder.position_at_end(end)
            finish(builder.gep(out_at, [builder.mul(x, _I64(row_bytes))]), sums[1])
            return context.get_dummy_value()

        return types.none(out, first, spare, table, above, same, below, types.int64), codegen

    return look_up


@intrinsic
def copy_vector(typingctx: Any, target: Any, source: Any) -> Any:
    """Copy one vector."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _store(builder, args[0], _load(builder, args[1], 1))
        return context.get_dummy_value()

    return types.none(target, source), codegen


@cache
def make_dot_rows(vectors: int, pixels: int) -> Any:
    """Make ``dot_rows(out, targets, rows, numbers, shifts, weights, taps)`` for this many pixels.

    It adds to ``out[targets[i]]``, for each pixel ``i = numbers[0], numbers[1], ...``, the dot products of the rows of
    ``weights`` and the rows at ``rows + i * row + shifts[tap]``, in bytes. A pixel may be listed twice.
    """
    row_bytes = 4 * LANES * vectors
    # As many sums as hide the latency of an addition.
    chains = min(vectors, PIXELS // pixels)

    @intrinsic
    def dot_rows(
        typingctx: Any, out: Any, targets: Any, rows: Any, numbers: Any, shifts: Any, weights: Any, taps: Any
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            out_at, targets_at, rows_at, numbers_at, shifts_at, weights_at, count = args
            rows_at, weights_at = (builder.bitcast(x, _I8.as_pointer()) for x in (rows_at, weights_at))
            multiply_add = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fmuladd.v{LANES}f32"
            )
            pixel = [builder.sext(builder.load(builder.gep(numbers_at, [_I64(j)])), _I64) for j in range(pixels)]
            bases = [builder.gep(rows_at, [builder.mul(i, _I64(row_bytes))]) for i in pixel]
            entry, loop, end = builder.block, builder.append_basic_block("taps"), builder.append_basic_block("summed")
            builder.branch(loop)
            builder.position_at_end(loop)
            tap, sums = builder.phi(_I64), [builder.phi(_VECTOR) for _ in range(pixels * chains)]
            shift = builder.load(builder.gep(shifts_at, [tap]))
            factors = _vectors(builder, builder.gep(weights_at, [builder.mul(tap, _I64(row_bytes))]), vectors)
            loaded = [_vectors(builder, builder.gep(base, [shift]), vectors) for base in bases]
            totals = list(sums)
            for v, at in enumerate(factors):
                factor = builder.load(at, align=4)
                for j in range(pixels):
                    k = v % chains * pixels + j
                    totals[k] = builder.call(multiply_add, [factor, builder.load(loaded[j][v], align=4), totals[k]])
            following = builder.add(tap, _I64(1))
            zeros = [ir.Constant(_VECTOR, None)] * len(sums)
            _carry([tap, *sums], [_I64(0), *zeros], entry, [following, *totals], loop)
            _keep_rolled(builder, builder.cbranch(builder.icmp_signed("<", following, count), loop, end))
            builder.position_at_end(end)
            places = [builder.gep(out_at, [builder.load(builder.gep(targets_at, [i]))]) for i in pixel]
            # All loads come first: a pixel that is listed twice is written twice, with the same number.
            before = [builder.load(at) for at in places]
            for k in range(pixels, pixels * chains):
                totals[k % pixels] = builder.fadd(totals[k % pixels], totals[k])
            total = _add_lanes(builder, totals[:pixels])
            for j, at in enumerate(places):
                builder.store(builder.fadd(before[j], builder.extract_element(total, _I32(j))), at)
            return context.get_dummy_value()

        return types.none(out, targets, rows, numbers, shifts, weights, types.int64), codegen

    return dot_rows


def _add_lanes(builder: Any, vectors: list[Any]) -> Any:
    """Return the sums of the lanes of each vector, as one vector: pairs are halved and merged, step by step."""

    def shuffle(a: Any, b: Any, lanes: list[int]) -> Any:
        return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(lanes)), [_I32(i) for i in lanes]))

    # A vector has the partial sums of ``len(lanes) / width`` of the vectors, in groups of ``width`` lanes.
    width = LANES
    while width > 1:
        width //= 2
        low = [i for i in range(2 * LANES) if i // width % 2 == 0]
        if len(vectors) > 1:
            pairs = list(zip(vectors[::2], vectors[1::2], strict=True))
        else:
            size = vectors[0].type.count
            low, pairs = [i for i in low if i < size], [(vectors[0], vectors[0])]
        high = [i + width for i in low]
        vectors = [builder.fadd(shuffle(a, b, low), shuffle(a, b, high)) for a, b in pairs]
    return vectors[0]


@cache
def make_list_bits(size: int) -> Any:
    """Make ``list_bits(offsets, n, word, base, step)`` for a word of ``size`` bits.

    It writes ``base + step * i`` for each bit i that is set to the end of a list of n offsets, and returns its length.
    """

    def compress(builder: Any, offsets: Any, n: Any, word: Any, base: Any, step: Any) -> Any:
        def splat(value: Any) -> Any:
            one = builder.insert_element(ir.Constant(_OFFSETS, ir.Undefined), value, _I32(0))
            return builder.shuffle_vector(one, one, ir.Constant(_OFFSETS, None))

        numbers, mask = ir.VectorType(_I8, 64), ir.VectorType(ir.IntType(1), 64)
        signature = ir.FunctionType(numbers, [numbers, numbers, mask])
        kept = cgutils.get_or_insert_function(builder.module, signature, "llvm.x86.avx512.mask.compress.v64i8")
        every = ir.Constant(numbers, [_I8(i) for i in range(64)])
        bits = builder.call(kept, [every, ir.Constant(numbers, None), builder.bitcast(word, mask)])
        count = builder.ctpop(word)
        steps, bases = splat(step), splat(base)
        end = builder.append_basic_block("listed")
        for first in range(0, size, LANES):
            lanes = ir.Constant(ir.VectorType(_I32, LANES), [_I32(first + lane) for lane in range(LANES)])
            part = builder.zext(builder.shuffle_vector(bits, bits, lanes), _OFFSETS)
            at = builder.gep(offsets, [builder.add(n, _I64(first))])
            value = builder.add(builder.mul(part, steps), bases)
            builder.store(value, builder.bitcast(at, _OFFSETS.as_pointer()), align=4)
            if first + LANES < size:
                more = builder.append_basic_block("more")
                builder.cbranch(builder.icmp_signed(">", count, _I64(first + LANES)), more, end)
                builder.position_at_end(more)
        builder.branch(end)
        builder.position_at_end(end)
        return builder.add(n, count)

    def one_by_one(builder: Any, offsets: Any, n: Any, word: Any, base: Any, step: Any) -> Any:
        entry, loop, end = builder.block, builder.append_basic_block("bits"), builder.append_basic_block("listed")
        builder.cbranch(builder.icmp_signed("!=", word, _I64(0)), loop, end)
        builder.position_at_end(loop)
        rest, length = builder.phi(_I64), builder.phi(_I64)
        bit = builder.trunc(builder.cttz(rest, ir.Constant(ir.IntType(1), 1)), _I32)
        builder.store(builder.add(base, builder.mul(step, bit)), builder.gep(offsets, [length]))
        less, longer = builder.and_(rest, builder.sub(rest, _I64(1))), builder.add(length, _I64(1))
        _carry([rest, length], [word, n], entry, [less, longer], loop)
        builder.cbranch(builder.icmp_signed("!=", less, _I64(0)), loop, end)
        builder.position_at_end(end)
        final = builder.phi(_I64)
        _carry([final], [n], entry, [longer], loop)
        return final

    @intrinsic
    def list_bits(typingctx: Any, offsets: Any, n: Any, word: Any, base: Any, step: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return (compress if _COMPRESS else one_by_one)(builder, *args)

        return types.int64(offsets, types.int64, types.int64, types.int32, types.int32), codegen

    return list_bits


@intrinsic
def transpose_bits(typingctx: Any, words: Any) -> Any:
    """Transpose a matrix of 64 by 64 bits in place: 64 words, the first column in their lowest bits."""
    matrix = ir.VectorType(_I64, 64)

    def constant(values: list[int]) -> Any:
        return ir.Constant(matrix, [_I64(value) for value in values])

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = builder.bitcast(args[0], matrix.as_pointer())
        value = builder.load(at, align=8)
        for j in (32, 16, 8, 4, 2, 1):
            # Swap the blocks of j by j bits above the diagonal with those below it.
            low = sum(((1 << j) - 1) << start for start in range(0, 64, 2 * j))
            high = ~low & (2**64 - 1)
            upper = [not i & j for i in range(64)]
            pairs = ir.Constant(ir.VectorType(_I32, 64), [_I32(i ^ j) for i in range(64)])
            other = builder.shuffle_vector(value, value, pairs)
            shift = constant([j] * 64)
            moved = builder.select(
                ir.Constant(ir.VectorType(ir.IntType(1), 64), [ir.IntType(1)(int(u)) for u in upper]),
                builder.shl(other, shift), builder.lshr(other, shift),
            )  # fmt: skip
            kept = builder.and_(value, constant([low if u else high for u in upper]))
            value = builder.or_(kept, builder.and_(moved, constant([high if u else low for u in upper])))
        builder.store(value, at, align=8)
        return context.get_dummy_value()

    return types.none(words), codegen
