"""Two processes train one network (gloo, on the CPU)."""

import json
import subprocess
import sys

from .small import options


def test_two_processes_make_one_run(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "shortcut_snn", "train", "--out", str(folder)]
    command += options(train__devices=2, train__strategy="ddp", train__accelerator="cpu")
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 2/2") == 1, "both processes spoke"
    assert done.stdout.count("network that ships") == 1
    assert json.loads((folder / "result.json").read_text())["epochs"] == 2
    # 270 training images, 50 in a batch of each of two processes.
    assert (folder / "metrics.csv").read_text().splitlines()[-1].startswith("1,6,")
