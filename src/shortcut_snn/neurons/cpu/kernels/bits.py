"""Pack spikes to bits and unpack them: a tile of 64 elements is one 64-bit word."""

from functools import cache
from typing import Any

from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from .build import ELEMENTS, TILE, kernel
from .memory import atomic_fetch_add, pointer, shifted

_WORD = ir.IntType(TILE)
# The LLVM type of an element, and the value of a spike in it.
_LANES = {
    types.float32: (ir.FloatType(), 1.0),
    types.uint16: (ir.IntType(16), 0x3F80),
    types.int16: (ir.IntType(16), 0x3C00),
}


@intrinsic
def pack_tile(typingctx: Any, elements: Any, bits: Any) -> Any:
    """Write the elements of a tile that are not 0 to the 8 bytes at ``bits``; a vector comparison yields these bits."""
    lane, _ = _LANES[elements.dtype]
    vector = ir.VectorType(lane, TILE)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(builder.bitcast(args[0], vector.as_pointer()))
        value.align = elements.dtype.bitwidth // 8
        zero = ir.Constant(vector, None)
        floats = isinstance(lane, ir.FloatType)
        fired = builder.fcmp_unordered("une", value, zero) if floats else builder.icmp_unsigned("!=", value, zero)
        builder.store(builder.bitcast(fired, _WORD), builder.bitcast(args[1], _WORD.as_pointer()), 8)
        return context.get_dummy_value()

    return types.none(elements, bits), codegen


@intrinsic
def unpack_tile(typingctx: Any, bits: Any, elements: Any) -> Any:
    """Write a tile of zeros and ones from the 8 bytes at ``bits``."""
    lane, spike = _LANES[elements.dtype]
    vector = ir.VectorType(lane, TILE)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = builder.load(builder.bitcast(args[0], _WORD.as_pointer()))
        word.align = 8
        fired = builder.bitcast(word, ir.VectorType(ir.IntType(1), TILE))
        value = builder.select(fired, ir.Constant(vector, [lane(spike)] * TILE), ir.Constant(vector, None))
        builder.store(value, builder.bitcast(args[1], vector.as_pointer()), elements.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(bits, elements), codegen


@cache
def bits_kernel(dtype: str, pack: bool) -> int:
    """Return the address of the kernel that writes ``bits`` from x ``[T, ...]``, or out ``[T, ...]`` from ``bits``."""
    element = ELEMENTS[dtype]

    def convert(params: Any) -> None:
        p = carray(params, 1)[0]
        x, out, bits = pointer(p.x, element), pointer(p.out, element), pointer(p.bits, types.uint8)
        item = atomic_fetch_add(p.next_item)
        while item < p.items:
            for t in range(p.time_steps):
                for base in range(item * p.item_size, min((item + 1) * p.item_size, p.elements), TILE):
                    word = shifted(bits, t * p.bits_stride + base // 8)
                    if pack:
                        pack_tile(shifted(x, t * p.stride + base), word)
                    else:
                        unpack_tile(word, shifted(out, t * p.stride + base))
            item = atomic_fetch_add(p.next_item)

    return kernel(convert)
