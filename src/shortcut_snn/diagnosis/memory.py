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
    """Measures against the memory in use when it is built.

    Args:
        device: ``"cuda"`` for what PyTorch has allocated there, ``"cpu"`` for the process's resident set.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._sampler: _Sampler | None = None
        trim(device)
        self.idle = self._now()

    @property
    def available(self) -> bool:
        """Whether this system tells."""
        return self.device == "cuda" or (self.device == "cpu" and _STATUS.exists())

    def start(self) -> None:
        """Forget peaks of the past, and memory that the process holds but does not use."""
        trim(self.device)
        if self.device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            return
        try:
            _CLEAR.write_text("5")  # VmHWM starts again from VmRSS
        except OSError:
            self._sampler = _Sampler()

    def stop(self) -> int:
        """Return the peak since the start, bytes over idle."""
        if self.device == "cuda":
            torch.cuda.synchronize()
            return torch.cuda.max_memory_allocated() - self.idle
        if self._sampler is None:
            return _status("VmHWM") - self.idle
        peak, self._sampler = self._sampler.stop(), None
        return peak - self.idle

    def during(self, run: Callable[[], None]) -> int:
        """Return the peak while ``run`` runs, bytes over idle."""
        self.start()
        try:
            run()
        finally:
            peak = self.stop()
        return peak

    def _now(self) -> int:
        if self.device == "cuda":
            torch.cuda.synchronize()
            return torch.cuda.memory_allocated()
        return _status("VmRSS") if self.available else 0


class _Sampler:
    """Looks at the resident set from a thread, for systems that keep no peak."""

    def __init__(self) -> None:
        self._peak, self._over = _status("VmRSS"), threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        while not self._over.is_set():
            self._peak = max(self._peak, _status("VmRSS"))
            time.sleep(0.0005)

    def stop(self) -> int:
        """Return the highest that was seen, bytes."""
        self._over.set()
        self._thread.join()
        return max(self._peak, _status("VmRSS"))
