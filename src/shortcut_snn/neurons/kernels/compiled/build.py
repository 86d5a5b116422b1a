"""Compiling and caching: every kernel is a C function of one pointer, to a sheet of parameters."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import types

TILE = 64
"""Elements that go through all time steps at once: few, so that all that is computed on the way stays in the L1 cache
beside the streams from memory, and a constant, so that loops over a tile unroll into a few vector instructions."""

# A loop over a tile. No fast-math: forward and backward must round alike, or they would disagree on who fired.
loop = numba.njit(error_model="numpy", nogil=True, boundscheck=False, forceinline=True)
# Sums may be taken in any order.
reduction = numba.njit(error_model="numpy", nogil=True, boundscheck=False, fastmath={"reassoc", "nsz"})

_ADDRESSES = """
    ticket workers workspace x residual out initial final scale shift mean partials grad_spikes grad_final
    grad_current grad_x grad_initial tau_partials bits residual_bits
"""
_SIZES = "tasks task_size fold_every worker_bytes time_steps elements stride origin x_step run channels bits_stride"
_NUMBERS = "tau threshold first second"
SHEET = np.dtype(
    [(name, np.int64) for name in (_ADDRESSES + _SIZES).split()] + [(name, np.float64) for name in _NUMBERS.split()]
)
"""Parameters of a kernel: addresses of its buffers (0: absent), sizes, and numbers."""

# How an element type of torch is kept in memory.
ELEMENTS = {"torch.float32": types.float32, "torch.bfloat16": types.uint16, "torch.float16": types.int16}


def _digest() -> int:
    content = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return int.from_bytes(hashlib.sha256(content).digest()[:7], "little")


# Numba's cache looks at the one file a kernel stands in; the loops it is made of stand in others. A kernel that has
# this number as a constant is compiled anew when any of them changes.
DIGEST = _digest()


def kernel(function: Callable[[Any], None]) -> int:
    """Compile ``function(sheet pointer)``, or load it from the cache, and return its address."""
    signature = types.void(types.CPointer(numba.from_dtype(SHEET)))
    options = {"error_model": "numpy", "boundscheck": False}
    try:
        compiled = numba.cfunc(signature, cache=True, **options)(function)
    except RuntimeError:  # No directory to cache in may be written to.
        compiled = numba.cfunc(signature, **options)(function)
    _KEEP.append(compiled)
    return int(compiled.address)


# Machine code lives as long as the object it came from.
_KEEP: list[Any] = []
