"""Freed memory stays with the process."""

import subprocess
import sys

import pytest

CODE = """
import resource, torch
from shortcut_snn.neurons import keep_freed_memory
is_set = keep_freed_memory()
torch.empty(1 << 24).fill_(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    torch.empty(1 << 24).fill_(1)
print(is_set, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.usefixtures("nothing_imported")  # In the heap of a forked process there may be a hole as large.
def test_a_large_tensor_takes_the_memory_of_the_one_before() -> None:
    is_set, faults = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True
    ).stdout.split()
    if is_set == "False":
        pytest.skip("the C library is not glibc")
    # 64 MiB three times would be 49152 pages of 4 KiB; with huge pages it would still be 96.
    assert int(faults) < 50
