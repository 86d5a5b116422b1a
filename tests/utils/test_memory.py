"""Peak memory counts what is allocated and freed in between, not what was there before."""

import pytest
import torch

from shortcut_snn._utils.memory import PeakMemory

pytestmark = pytest.mark.skipif(not PeakMemory("cpu").available, reason="this system does not reset peaks")
MIB = 2**20


def test_peaks_of_allocations() -> None:
    held = torch.ones(64 * MIB // 4)
    measured = PeakMemory("cpu")
    for size in (200 * MIB, 40 * MIB, 160 * MIB):
        measured.start()
        torch.ones(size // 4)
        assert measured.stop() == pytest.approx(size, abs=20 * MIB)
    assert held.any()
