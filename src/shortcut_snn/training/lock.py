"""Who may write to a folder: one process at a time, for as long as it lives."""

import errno
import os
from pathlib import Path

# What this process holds. A process that is forked inherits it, and would hold it when this one is killed.
_held: set[int] = set()


def hold(folder: Path, refusal: str) -> int | None:
    """Hold a folder against other processes that ask for it; the system frees it when the process ends.

    Args:
        folder: that is there.
        refusal: begins what is said where another process holds it.

    Returns:
        What to give to :func:`let_go`; None where folders cannot be held (Windows).

    Raises:
        ValueError: another process holds it.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> first = hold(folder, "somebody is in it")
        >>> hold(folder, "somebody is in it")
        Traceback (most recent call last):
        ...
        ValueError: somebody is in it; wait for it or end it, or name another folder
        >>> let_go(first)
        >>> let_go(hold(folder, "somebody is in it"))
    """
    try:
        import fcntl
    except ModuleNotFoundError:
        return None
    handle = os.open(folder, os.O_RDONLY)
    _held.add(handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # On some network disks nothing can be held.
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            let_go(handle)
            raise ValueError(f"{refusal}; wait for it or end it, or name another folder") from None
    return handle


def let_go(handle: int | None) -> None:
    """Let another process have it."""
    # In a forked process it is closed already.
    if handle is not None and handle in _held:
        _held.remove(handle)
        os.close(handle)


def _forget() -> None:
    for handle in _held:
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
