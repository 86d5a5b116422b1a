"""Peak memory: what is taken and given back within a run is seen, what was there before is not."""

import subprocess
import sys
from pathlib import Path

import pytest

from shortcut_snn.diagnosis import memory
from shortcut_snn.diagnosis.memory import PeakMemory

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system has no /proc")
MIB = 2**20
# In a process of its own: what tests before it left behind may be given back while it measures.
CODE = """
import sys, torch
from pathlib import Path
from shortcut_snn.diagnosis import memory
from shortcut_snn.neurons import keep_freed_memory

def take(mebibytes):
    torch.ones(mebibytes * 2**20 // 4)

keep, folder = sys.argv[1] == "True", sys.argv[2]
if keep:
    keep_freed_memory()
held = torch.ones(64 * 2**20 // 4)
# A folder cannot be written to as a file: the resident set is sampled instead.
for memory._CLEAR in (memory._CLEAR, Path(folder)):
    measured = memory.PeakMemory("cpu")
    assert measured.available
    take(200)
    print(measured.during(lambda: take(40)), measured.during(lambda: take(160)))
"""


@pytest.mark.parametrize("keep", [True, False])
def test_sees_the_peak_of_a_run(keep: bool, tmp_path: Path) -> None:
    command = [sys.executable, "-c", CODE, str(keep), str(tmp_path)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 2, "with the kernel's own peak, and by sampling"
    for line in lines:
        small, large = map(int, line.split())
        slack = 20 * MIB
        assert abs(small - 40 * MIB) <= slack
        assert abs(large - 160 * MIB) <= slack


def test_a_run_that_fails_ends_the_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CLEAR", tmp_path)
    measured = PeakMemory("cpu")

    def fail() -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        measured.during(fail)
    assert measured._sampler is None
