"""Keep freed memory in the process: page faults of new memory cost more than most passes over it."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER_TRIM = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make the C library keep the memory of freed tensors for the tensors of the next step.

    By default glibc returns a large tensor's memory to the system at once, so that every training step pays page faults
    for each of its tensors. After this call the process keeps its peak memory until it ends. The setting needs glibc
    and is meant for training on a CPU; the recipe's ``training.keep_freed_memory`` calls it.

    Returns:
        Whether the setting was applied: False if the C library is not glibc.

    Example:
        >>> applied = keep_freed_memory()  # doctest: +SKIP
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM))
