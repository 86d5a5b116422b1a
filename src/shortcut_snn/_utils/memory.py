"""Measure the peak memory of a computation: resident memory on a CPU, allocated memory on a GPU."""

import contextlib
import ctypes
import gc
import os
import re
from pathlib import Path

import torch

_RESET_PEAK = Path("/proc/self/clear_refs")


class PeakMemory:
    """Measures the peak memory in bytes above that in use when the object is built.

    On ``"cuda"`` it is what PyTorch allocates there, on ``"cpu"`` the resident memory of the process.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        release_memory(device)
        self.idle = self._read("VmRSS") if self.available else 0

    @property
    def available(self) -> bool:
        """True if the system can measure it: a CPU needs Linux with a writable ``/proc/self/clear_refs``."""
        return self.device == "cuda" or (self.device == "cpu" and os.access(_RESET_PEAK, os.W_OK))

    def start(self) -> None:
        """Forget earlier peaks."""
        release_memory(self.device)
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            # The peak starts again from the present size.
            _RESET_PEAK.write_text("5")

    def stop(self) -> int:
        """Return the peak since the start."""
        return self._read("VmHWM") - self.idle

    def _read(self, entry: str) -> int:
        """Return the memory in use (``VmRSS``) or the peak (``VmHWM``) in bytes."""
        if self.device == "cuda":
            torch.cuda.synchronize()
            return torch.cuda.memory_allocated() if entry == "VmRSS" else torch.cuda.max_memory_allocated()
        match = re.search(rf"^{entry}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        assert match is not None
        return int(match[1]) * 1024


def release_memory(device: str) -> None:
    """Return unused memory to the system, so that it does not hide what is allocated later."""
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
