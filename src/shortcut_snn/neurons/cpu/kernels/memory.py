"""Loads, stores and atomic counters for compiled loops, as numba intrinsics.

Every buffer has an alias scope, and buffers of different scopes never overlap. Each access carries its scope as LLVM
metadata. Without it, LLVM guards a loop over many buffers with overlap checks, and gives up vectorising.
The element type tells how a float32 is stored: ``float32`` as it is, ``uint16`` as bfloat16, ``int16`` as float16.
Numba has neither half type.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# Alias scopes: one for each buffer that a kernel may touch.
X, RESIDUAL, OUT, U, SAVED = 0, 1, 2, 3, 4
GRAD, GRAD_U, GRAD_CURRENT, GRAD_SUM, LEARNED, SUM, SUM_X = 5, 6, 7, 8, 9, 10, 11
SOURCE, PARTIAL, INITIAL, FINAL, NUMBER = 12, 13, 14, 15, 16
# Values per channel, expanded to a tile: several buffers, but no loop writes one while it reads another.
ROW = 17
# The sums of learned parameters per channel, one scope each from here on.
SUM_Q = 18
MAX_Q = 8
_SCOPES = SUM_Q + MAX_Q

_F32, _I32, _I16 = ir.FloatType(), ir.IntType(32), ir.IntType(16)


def _mark(module: Any, instruction: Any, scope: int) -> None:
    domain = module.add_metadata(["shortcut_snn"])
    scopes = [module.add_metadata([f"buffer {number}", domain]) for number in range(_SCOPES)]
    instruction.set_metadata("alias.scope", module.add_metadata([scopes[scope]]))
    instruction.set_metadata("noalias", module.add_metadata([s for i, s in enumerate(scopes) if i != scope]))


def _widen(builder: Any, element: Any, value: Any) -> Any:
    if element == types.uint16:
        return builder.bitcast(builder.shl(builder.zext(value, _I32), _I32(16)), _F32)
    if element == types.int16:
        return builder.fpext(builder.bitcast(value, ir.HalfType()), _F32)
    return value


def _narrow(builder: Any, element: Any, value: Any) -> Any:
    if element == types.uint16:
        bits = builder.bitcast(value, _I32)
        # Round to nearest, ties to even. A NaN would overflow into another number, so it becomes a quiet NaN.
        odd = builder.and_(builder.lshr(bits, _I32(16)), _I32(1))
        rounded = builder.lshr(builder.add(builder.add(bits, _I32(0x7FFF)), odd), _I32(16))
        is_nan = builder.fcmp_unordered("uno", value, value)
        return builder.trunc(builder.select(is_nan, _I32(0x7FC0), rounded), _I16)
    if element == types.int16:
        return builder.bitcast(builder.fptrunc(value, ir.HalfType()), _I16)
    return value


@intrinsic(prefer_literal=True)
def load(typingctx: Any, pointer: Any, index: Any, scope: Any) -> Any:
    """Return element ``index`` of a buffer; half precision is widened to float32."""
    element = pointer.dtype
    result = element if element in (types.float32, types.float64) else types.float32

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(builder.gep(args[0], [args[1]], inbounds=True))
        value.align = element.bitwidth // 8
        _mark(builder.module, value, scope.literal_value)
        return _widen(builder, element, value)

    return result(pointer, types.int64, scope), codegen


@intrinsic(prefer_literal=True)
def store(typingctx: Any, pointer: Any, index: Any, value: Any, scope: Any) -> Any:
    """Write a float to element ``index`` of a buffer, rounded to the element type."""
    element = pointer.dtype
    source = element if element in (types.float32, types.float64) else types.float32

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        stored = builder.store(
            _narrow(builder, element, args[2]), builder.gep(args[0], [args[1]], inbounds=True), element.bitwidth // 8
        )
        _mark(builder.module, stored, scope.literal_value)
        return context.get_dummy_value()

    return types.none(pointer, types.int64, source, scope), codegen


@intrinsic
def pointer(typingctx: Any, address: Any, element: Any) -> Any:
    """Return an address as a pointer to elements of a numba type."""
    kind = types.CPointer(element.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(kind))

    return kind(types.int64, element), codegen


@intrinsic
def shifted(typingctx: Any, base: Any, count: Any) -> Any:
    """Return a pointer advanced by ``count`` elements."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]], inbounds=True)

    return base(base, types.int64), codegen


@intrinsic
def atomic_fetch_add(typingctx: Any, address: Any) -> Any:
    """Return the value of a shared int64 counter, and add 1 to it atomically."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        counter = builder.inttoptr(args[0], cgutils.intp_t.as_pointer())
        return builder.atomic_rmw("add", counter, ir.Constant(cgutils.intp_t, 1), "monotonic")

    return types.int64(types.int64), codegen


@intrinsic
def power_of_two(typingctx: Any, value: Any) -> Any:
    """Return 2 to the power of the integer in the low bits of a float32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        exponent = builder.add(builder.bitcast(args[0], _I32), _I32(127))
        return builder.bitcast(builder.shl(exponent, _I32(23)), _F32)

    return types.float32(types.float32), codegen
