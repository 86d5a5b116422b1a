"""A run's folder has one writer at a time."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a folder, which is there, against other processes that ask for it; the system frees it with the process.

    Where folders cannot be held (Windows, some network disks) nothing is.

    Raises:
        ValueError: another process holds it.
    """
    try:
        import fcntl
    except ModuleNotFoundError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            os.close(handle)
            raise ValueError(
                f"another process is training in {folder}; wait for it or end it, or name another folder"
            ) from None
    try:
        yield
    finally:
        os.close(handle)
