"""Keeping freed memory in the process: fresh pages from the system cost more than most passes over them."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the C library keep the memory that large tensors free, for the tensors of the next step.

    By default glibc takes a large tensor's memory from the system and gives it back at once, so that every step
    begins each of its tensors with page faults. After this call the process holds on to its peak memory, for good.
    It works with glibc only, and is for training on a CPU: the command's ``train`` calls it (see the recipe's
    ``training.keep_freed_memory``), nothing else in this library does.

    Returns:
        Whether it was done: False where the C library is not glibc.

    Example:
        >>> kept = keep_freed_memory()  # doctest: +SKIP
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _MOST))
