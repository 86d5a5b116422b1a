"""The GPU kernels: tests of this folder with Triton's kernels instead of numba's, in a separate process.

Triton reads on import whether to interpret kernels, and its interpreter patches Triton itself, which must not affect
other tests. With a GPU the tests run on it too.
"""

import importlib.util
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).parent
NEURONS = ("synaptic-channels_last-dtype2", "rlif-contiguous-dtype3", "by-channel-channels_last-dtype6")
HALF = ("dtype0-channels_last-True", "dtype2-contiguous-True")
# Tests of numbers; those of modules and operators do not depend on the kernels.
TESTS = [
    "test_lif.py::test_values_and_gradients_equal_plain_pytorch",
    "test_norm_neuron.py::test_sizes_equal_plain_pytorch",
    "test_norm_neuron.py::test_a_constant_current_equals_plain_pytorch",
    *(f"test_norm_neuron.py::test_half_precision_is_computed_in_float32[{case}]" for case in HALF),
    "test_norm_neuron.py::test_rounding_to_bfloat16_is_to_nearest_even",
    "test_norm_neuron.py::test_statistics_are_exact_far_from_zero",
    "test_bits.py",
    *(f"test_every_neuron.py::test_norm_and_residual_equal_plain_pytorch[{case}]" for case in NEURONS),
    "test_every_neuron.py::test_gradients_of_states_equal_plain_pytorch[clif-True]",
    "test_operators.py::test_opcheck[channels_last-True-True-False]",
]
# In the interpreter the launches of the whole file take as long as all the rest.
WRONG = [f"test_proof.py::test_a_wrong_{kernel}_kernel_is_not_used" for kernel in ("forward", "backward", "fixed")]
THERE = importlib.util.find_spec("triton") is not None
TRITON = tuple(map(int, version("triton").split(".")[:2])) if THERE else (0, 0)
needs_triton = pytest.mark.skipif(not THERE, reason="Triton is not installed: there is none for this platform")


def run_tests(*more: str, **environment: str) -> int:
    """Run the tests with Triton's kernels and return how many passed."""
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *(str(FOLDER / test) for test in (*TESTS, *more))],
        capture_output=True,
        text=True,
        cwd=FOLDER.parents[2],
        env={**os.environ, "SHORTCUT_SNN_BACKEND": "triton", **environment},
        check=False,
    )
    summary = result.stdout.strip().rpartition("\n")[2]
    assert result.returncode == 0, f"{result.stdout[-8000:]}\n{result.stderr[-4000:]}"
    assert not re.search("failed|error|skipped", summary), summary
    passed = re.search(r"(\d+) passed", summary)
    assert passed, summary
    return int(passed.group(1))


@needs_triton
@pytest.mark.skipif(
    TRITON < (3, 6) and np.lib.NumpyVersion(np.__version__) >= "2.4.0",
    reason="the interpreter of Triton 3.5 fails with numpy 2.4",
)
def test_the_kernels_equal_plain_pytorch_in_tritons_interpreter() -> None:
    assert run_tests(*WRONG, TRITON_INTERPRET="1") > 15


@needs_triton
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_the_kernels_equal_plain_pytorch_on_a_gpu() -> None:
    assert run_tests("test_proof.py", TRITON_INTERPRET="0") > 15
