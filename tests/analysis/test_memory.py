"""Peak memory: what is taken and given back within a run is seen, what was there before is not."""

from pathlib import Path

import pytest
import torch

from shortcut_snn.analysis import memory
from shortcut_snn.analysis.memory import PeakMemory

MIB = 2**20
pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system has no /proc")


def take(mebibytes: int) -> None:
    # Large enough to come from the system and go back to it at once.
    torch.ones(mebibytes * MIB // 4)


@pytest.mark.parametrize("clearable", [True, False])
def test_sees_the_peak_of_a_run(clearable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not clearable:
        # A folder cannot be written to as a file: the resident set is sampled instead.
        monkeypatch.setattr(memory, "_CLEAR", tmp_path)
    held = torch.ones(64 * MIB // 4)
    measured = PeakMemory("cpu")
    assert measured.available
    take(200)
    small, large = measured.during(lambda: take(40)), measured.during(lambda: take(160))
    slack = 30 * MIB
    assert 40 * MIB - slack <= small <= 40 * MIB + slack
    assert 160 * MIB - slack <= large <= 160 * MIB + slack
    assert held.numel()


def test_a_run_that_fails_ends_the_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CLEAR", tmp_path)
    measured = PeakMemory("cpu")

    def fail() -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        measured.during(fail)
    assert measured._sampler is None
