"""Run a compiled kernel on several threads.

A kernel takes work items until none is left, so any number of threads may enter it. If PyTorch's operators run on GNU
OpenMP, kernels use the same threads: a second pool would compete with them, since OpenMP threads spin for a while after
each operator. Otherwise kernels run on a pool of Python threads.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path
from typing import Any

import torch

# The kernel at an address, as a function of the address of its parameters.
_entry: Callable[[int], Callable[[int], None]] = cache(ctypes.CFUNCTYPE(None, ctypes.c_void_p))
_forked = False
_pool: ThreadPoolExecutor | None = None


def _after_fork() -> None:
    # Threads do not survive a fork, and OpenMP would wait for them forever.
    global _forked, _pool
    _forked, _pool = True, None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def thread_count() -> int:
    """Return how many threads a kernel may use: PyTorch's setting, or 1 in a forked process."""
    return 1 if _forked else torch.get_num_threads()


def run(kernel: int, params: int, threads: int) -> None:
    """Enter the kernel at an address on a number of threads, and wait for all of them."""
    if threads <= 1:
        _entry(kernel)(params)
    elif (parallel := _openmp()) is not None:
        parallel(kernel, params, threads, 0)
    else:
        _run_in_pool(_entry(kernel), params, threads)


@cache
def _openmp() -> Any:
    """Return ``GOMP_parallel`` of the OpenMP library that PyTorch is linked to, or None."""
    if not torch.backends.openmp.is_available():  # type: ignore[no-untyped-call]
        return None
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        parallel = ctypes.CDLL(str(library)).GOMP_parallel
    except (OSError, AttributeError):
        return None
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    return parallel


def _run_in_pool(entry: Callable[[int], None], params: int, threads: int) -> None:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(max(threads - 1, (os.cpu_count() or 1)), "shortcut-snn")
    futures = [_pool.submit(entry, params) for _ in range(threads - 1)]
    entry(params)
    # A thread that has not started has nothing left to do. The others must return before the buffers are freed.
    wait([future for future in futures if not future.cancel()])
