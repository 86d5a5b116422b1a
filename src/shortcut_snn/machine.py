"""What the machine can carry: a recipe or a file may come from a stranger, and ask for anything."""

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any


class TooLarge(ValueError):
    """Something that was asked for does not fit into this machine; nothing has been done yet."""


def memory() -> float:
    """Return the memory of the machine, or of the container that this process is in, in bytes.

    It is infinite where the system does not tell.

    Example:
        >>> memory() > 2**20
        True
    """
    if not hasattr(os, "sysconf"):
        return math.inf
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        # "max" where there is no limit.
        with suppress(OSError, ValueError):
            found = min(found, int(Path("/sys/fs/cgroup", name).read_text(encoding="ascii")))
    return found


def converts_bf16(device: str) -> bool:
    """Return whether bfloat16 is only converted to and from float32 there, which takes longer than float32 itself.

    Args:
        device: type of it; of others than ``"cpu"`` nothing is known, nor of processors but x86.

    Example:
        >>> converts_bf16("cuda")
        False
    """
    import torch

    # Older versions of torch do not tell.
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)() if device == "cpu" else {}
    return known.get("architecture") == "x86_64" and not any(
        known.get(name) for name in ("avx512_bf16", "amx_bf16", "avx_ne_convert")
    )


def check_processes(count: int, name: str, what: str) -> None:
    """Refuse more processes than a machine can run.

    Args:
        count: how many.
        name: of the entry that says so.
        what: they are.

    Raises:
        TooLarge: they are too many for its cores.
    """
    cores = os.cpu_count() or 1
    if count > (most := max(16, 4 * cores)):
        raise TooLarge(
            f"{name}: {count:,} {what} are too many for the {cores} cores of this machine; at most {most}, and about "
            "one a core is best"
        )


def check_memory(needed: float, what: str, instead: str, there: float | None = None) -> None:
    """Refuse what does not fit into the memory.

    Args:
        needed: bytes, at the least.
        what: needs them, as the beginning of a sentence.
        instead: what to do, as the end of one.
        there: bytes; by default the machine's memory.

    Raises:
        TooLarge: it has less.
    """
    there = memory() if there is None else there
    if needed > there:
        raise TooLarge(
            f"{what}: at least {needed / 2**30:,.1f} GiB of memory are needed, and this machine has "
            f"{there / 2**30:,.1f} GiB; {instead}"
        )
