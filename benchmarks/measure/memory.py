"""Peak memory of a step over an idle process, bytes: resident set on a CPU, allocated on a GPU."""

import contextlib
import ctypes
import gc
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def _status(key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def trim(device: str) -> None:
    """Give memory that is not in use back to the system."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class PeakMemory:
    """Measures against the memory in use when it is built."""

    def __init__(self, device: str) -> None:
        self.device = device
        trim(device)
        self.idle = self._now()

    @property
    def available(self) -> bool:
        """Whether this system tells."""
        return self.device == "cuda" or _STATUS.exists()

    def during(self, run: Callable[[], None]) -> int:
        """Return the peak while ``run`` runs, bytes over idle."""
        if self.device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            run()
            torch.cuda.synchronize()
            return torch.cuda.max_memory_allocated() - self.idle
        try:
            _CLEAR.write_text("5")  # VmHWM starts again from VmRSS
        except OSError:
            return self._sampled(run) - self.idle
        run()
        return _status("VmHWM") - self.idle

    def _now(self) -> int:
        if self.device == "cuda":
            torch.cuda.synchronize()
            return torch.cuda.memory_allocated()
        return _status("VmRSS") if self.available else 0

    def _sampled(self, run: Callable[[], None]) -> int:
        peak, stop = _status("VmRSS"), threading.Event()

        def sample() -> None:
            nonlocal peak
            while not stop.is_set():
                peak = max(peak, _status("VmRSS"))
                time.sleep(0.0005)

        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        try:
            run()
        finally:
            stop.set()
            thread.join()
        return max(peak, _status("VmRSS"))
