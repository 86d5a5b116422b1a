"""Compile and cache kernels."""

import hashlib
import types as types_of_python
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import types

TILE = 64
"""Number of elements that pass all time steps together.

It is small, so that intermediate values stay in the L1 cache along with the streams from memory. It is a constant, so
that loops over a tile unroll into a few vector instructions.
"""

if numba.config.DISABLE_JIT:
    raise RuntimeError("NUMBA_DISABLE_JIT is set")

# Only kernels call these functions: without the wrappers for Python and C they compile faster.
_INNER = {
    "error_model": "numpy", "nogil": True, "boundscheck": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True,
}  # fmt: skip
# A loop over a tile. No fast-math: forward and backward must round alike, or they would disagree about spikes.
loop = numba.njit(**_INNER, forceinline=True)
# Sums may be computed in any order.
reduction = numba.njit(**_INNER, fastmath={"reassoc", "nsz"})

_ADDRESSES = """
    next_item next_thread workspace x residual out initial final scale shift mean partials grad_spikes grad_final
    grad_current grad_x grad_initial learned bits residual_bits support numbers rows weights first zero grad
"""
_SIZES = """
    items item_size fold_every thread_bytes time_steps elements stride origin x_step run channels bits_stride
    outputs kernel conv_stride batch image_bytes height width out_height out_width chunk_rows list_bytes tile_blocks
"""
PARAMS = np.dtype([(name, np.int64) for name in (_ADDRESSES + _SIZES).split()])
"""The parameter struct of a kernel: addresses of its buffers (0 if absent), and sizes."""

# The numba type in which an element type of torch is stored.
ELEMENTS = {"torch.float32": types.float32, "torch.bfloat16": types.uint16, "torch.float16": types.int16}


_SOURCES = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))


def kernel(function: Callable[[Any], None], loops: Mapping[str, Any] | None = None, source: str = "") -> int:
    """Compile ``function(pointer to PARAMS)``, or load it from the cache, and return its address.

    It calls generated ``loops`` by these global names; ``source`` is their text. They are globals since numba takes
    what is in a closure for a part of the cache's key, and generated functions have no key that outlives the process.
    """
    global _warned
    names = function.__globals__ | dict(loops or {})
    bound = types_of_python.FunctionType(function.__code__, names, function.__name__, None, function.__closure__)
    bound.__qualname__, bound.__module__ = f"{function.__qualname__}_{_digest(function, source)}", function.__module__
    signature = types.void(types.CPointer(numba.from_dtype(PARAMS)))
    options = {"error_model": "numpy", "boundscheck": False}
    try:
        compiled = numba.cfunc(signature, cache=True, **options)(bound)
    except Exception as error:  # Any, if a file of the cache is damaged; a fault of the kernel is raised again below.
        compiled = numba.cfunc(signature, **options)(bound)
        # A folder that is not writable has no cache, which is not a fault. Any other reason is told once.
        if not _warned and "no locator" not in str(error):
            _warned = True
            warnings.warn(
                f"Kernels are compiled again, since numba's cache cannot be used ({type(error).__name__}: {error}): "
                "delete its files (*.nbi), or set NUMBA_CACHE_DIR to another folder",
                stacklevel=2,
            )
    _COMPILED.append(compiled)
    return int(compiled.address)


def _digest(function: Callable[[Any], None], source: str) -> str:
    """Return a hash of all that a kernel is compiled from, to name its files in numba's cache.

    Numba checks the file that contains a kernel, but its loops come from other files or from generated source. Kernels
    of one name share an index, which numbers their files. Two processes that compile at once, or one that is killed in
    between, could leave the code of one kernel under the key of another.
    """
    constants = [cell.cell_contents for cell in function.__closure__ or ()]
    return hashlib.sha256(_SOURCES + repr((constants, source)).encode()).hexdigest()[:16]


_warned = False
# Machine code lives as long as the object that owns it.
_COMPILED: list[Any] = []
