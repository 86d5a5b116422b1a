"""Running a compiled kernel on several threads.

A kernel takes pieces of work from a shared counter until none is left, so it may be entered by any number of
threads. Where PyTorch's operators run on GNU OpenMP, the same team of threads is used: another one would compete
with it, because its members spin for a while after each operator. Elsewhere it is a pool of Python threads.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path
from typing import Any

import torch

_Entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_forked = False
_pool: ThreadPoolExecutor | None = None


def _after_fork() -> None:
    # Threads do not survive a fork, and OpenMP would wait for them for ever.
    global _forked, _pool
    _forked, _pool = True, None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def thread_count() -> int:
    """Return how many threads a kernel may run on: PyTorch's setting, and 1 in a forked process."""
    return 1 if _forked else torch.get_num_threads()


@cache
def _entry(address: int) -> Callable[[int], None]:
    return _Entry(address)


@cache
def _openmp() -> Any:
    """Return GOMP_parallel of the OpenMP that PyTorch is linked to, or None."""
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


def run(kernel: int, sheet: int, threads: int) -> None:
    """Enter the kernel at an address, with the address of its parameters, on a number of threads; wait for all."""
    if threads <= 1:
        _entry(kernel)(sheet)
    elif (parallel := _openmp()) is not None:
        parallel(kernel, sheet, threads, 0)
    else:
        _run_in_pool(_entry(kernel), sheet, threads)


def _run_in_pool(entry: Callable[[int], None], sheet: int, threads: int) -> None:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(max(threads - 1, (os.cpu_count() or 1)), "shortcut-snn")
    helpers = [_pool.submit(entry, sheet) for _ in range(threads - 1)]
    entry(sheet)
    # A helper that has not begun has nothing left to do; the others must leave before the buffers may go.
    wait([helper for helper in helpers if not helper.cancel()])
