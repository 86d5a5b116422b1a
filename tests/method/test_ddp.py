"""Two processes with DistributedDataParallel on gloo, while the branches speak and when they have fallen silent."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> dict[str, list[tuple[float, float, bool]]]:
    """By case: (lambda, error of the gradients, whether the branches' are 0) for four steps."""
    rendezvous = tmp_path_factory.mktemp("ddp") / "rendezvous"
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.method.ddp_worker", str(rank), str(rendezvous)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    try:
        ends = [process.communicate(timeout=180) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], ends[0][1][-3000:] + ends[1][1][-3000:]
    return json.loads(ends[0][0].splitlines()[-1])


def test_gradients_are_those_of_one_process_with_the_whole_batch(report) -> None:
    assert len(report) == 6
    for case, steps in report.items():
        assert [branch_weight for branch_weight, _, _ in steps] == [0.5, 0.0, 0.0, 0.5], case
        assert all(error < 1e-5 for _, error, _ in steps), case


def test_branches_at_lambda_0_get_zero_gradients_under_ddp(report) -> None:
    for case, steps in report.items():
        assert [silent for branch_weight, _, silent in steps if branch_weight == 0] == [True, True], case
        speaking = [not silent for branch_weight, _, silent in steps if branch_weight > 0]
        assert speaking == ([False, False] if "alone" in case else [True, True]), case
