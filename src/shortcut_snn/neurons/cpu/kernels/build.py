"""Compiling and caching: every kernel is a C function of one pointer, to a sheet of parameters."""

import hashlib
import types as types_of_python
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import types

TILE = 64
"""Elements that go through all time steps at once: few, so that all that is computed on the way stays in the L1 cache
beside the streams from memory, and a constant, so that loops over a tile unroll into a few vector instructions."""

# Kernels alone call them: without wrappers for others they compile sooner.
_INNER = {
    "error_model": "numpy", "nogil": True, "boundscheck": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True,
}  # fmt: skip
# A loop over a tile. No fast-math: forward and backward must round alike, or they would disagree on who fired.
loop = numba.njit(**_INNER, forceinline=True)
# Sums may be taken in any order.
reduction = numba.njit(**_INNER, fastmath={"reassoc", "nsz"})

_ADDRESSES = """
    ticket workers workspace x residual out initial final scale shift mean partials grad_spikes grad_final
    grad_current grad_x grad_initial learned bits residual_bits numbers rows
"""
_SIZES = "tasks task_size fold_every worker_bytes time_steps elements stride origin x_step run channels bits_stride"
SHEET = np.dtype([(name, np.int64) for name in (_ADDRESSES + _SIZES).split()])
"""Parameters of a kernel: addresses of its buffers (0: absent), and sizes."""

# How an element type of torch is kept in memory.
ELEMENTS = {"torch.float32": types.float32, "torch.bfloat16": types.uint16, "torch.float16": types.int16}


_SOURCES = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))


def digest_of(made: str = "") -> int:
    """Return a number that differs where these files differ, or the text that a kernel's loops are made of.

    Numba's cache looks at the one file a kernel stands in; the loops it is made of stand in others, or nowhere. A
    kernel that has this number as a constant is compiled anew when any of them changes.
    """
    return int.from_bytes(hashlib.sha256(_SOURCES + made.encode()).digest()[:7], "little")


DIGEST = digest_of()


def kernel(function: Callable[[Any], None], made: Mapping[str, Any] | None = None) -> int:
    """Compile ``function(sheet pointer)``, or load it from the cache, and return its address.

    Args:
        function: the kernel.
        made: what some names that it uses stand for. As globals, since what numba finds in a closure it takes for a
            part of the kernel's identity, and loops that were made have none that outlasts the process.
    """
    names = function.__globals__ | dict(made or {})
    own = types_of_python.FunctionType(function.__code__, names, function.__name__, None, function.__closure__)
    own.__qualname__, own.__module__ = function.__qualname__, function.__module__
    signature = types.void(types.CPointer(numba.from_dtype(SHEET)))
    options = {"error_model": "numpy", "boundscheck": False}
    try:
        compiled = numba.cfunc(signature, cache=True, **options)(own)
    except RuntimeError:  # No directory to cache in may be written to.
        compiled = numba.cfunc(signature, **options)(own)
    _KEEP.append(compiled)
    return int(compiled.address)


# Machine code lives as long as the object it came from.
_KEEP: list[Any] = []
