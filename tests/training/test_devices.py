"""Two processes (gloo, on the CPU) train one network together."""

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

from shortcut_snn.cli.evaluate import evaluate
from shortcut_snn.data import Digits
from shortcut_snn.training import Training
from shortcut_snn.training.task import EpochMeans
from shortcut_snn.training.trainer import make_trainer

from . import joined
from .small import options, train

# 151 training images, and validation and test sets that two processes cannot share evenly.
SETTINGS = {
    "training__devices": 2,
    "training__strategy": "ddp",
    "training__accelerator": "cpu",
    "training__threads": 1,
    "data__augment": "[crop]",
    "data__train_limit": 160,
    "data__test_limit": 51,
    "data__batch_size": 24,
}
ALONE = {"training__devices": 1, "training__strategy": "auto", "data__batch_size": 48}


def start(arguments: list[str], rank: int, **variables: str) -> subprocess.Popen[str]:
    """Start a Python process as one of two that launchers such as torchrun start."""
    world = {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=Path(__file__).parents[2], env=os.environ | world | variables, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes."""
    folder = tmp_path_factory.mktemp("runs") / "pair"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = ["-m", "shortcut_snn", "train", "--out", str(folder), *options(**SETTINGS)]
    processes = [start(command, rank, MASTER_PORT=port) for rank in range(2)]
    outputs = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    text = "".join(out for out, _ in outputs)
    assert text.count("epoch 2/2") == text.count("deployed network") == 1, "both processes logged"
    return folder


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, joined.Steps]]:
    """Losses and states of each of two processes."""
    out = tmp_path_factory.mktemp("joined") / "steps"
    workers = [start(["-m", "tests.training.joined", str(out), str(rank), "2"], rank) for rank in range(2)]
    assert [worker.wait(timeout=240) for worker in workers] == [0, 0]
    return [torch.load(f"{out}.{rank}", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("case", joined.CASES)
def test_two_processes_equal_one_with_the_joined_batch(together, case):
    losses, state = joined.steps(case, 0, 1)
    for results in together:
        other_losses, other_state = results[case]
        assert other_losses == pytest.approx(losses, rel=1e-9)
        assert other_state.keys() == state.keys()
        for key, value in state.items():
            torch.testing.assert_close(other_state[key], value, rtol=1e-8, atol=1e-10)


def test_samples_count_once_in_evaluation(pair):
    """25 and 26 test images: the means are over images, not over processes."""
    result = json.loads((pair / "result.json").read_text())
    assert evaluate(pair).metrics == pytest.approx(result["test_last"], abs=1e-6)
    hits = result["test_last"]["accuracy"] * 51
    assert hits == pytest.approx(round(hits), abs=1e-3)
    rows = list(csv.DictReader((pair / "metrics.csv").open()))
    assert [row["step"] for row in rows] == ["3", "6"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"data__batch_size": 48}, "48 samples per step, now 96"),
        ({}, "training.sync_batchnorm=true"),
    ],
)
def test_another_number_of_processes_is_refused(tmp_path, capsys, changes, named):
    given = SETTINGS | {"training__epochs": 1}
    assert train(tmp_path / "run", **given | ALONE) == 0
    (tmp_path / "run" / "result.json").unlink()
    assert train(tmp_path / "run", "--resume", **given | changes) == 1
    assert named in capsys.readouterr().err


def test_synchronised_batch_norms_need_a_gpu(tmp_path, capsys):
    assert train(tmp_path / "run", **SETTINGS | {"training__sync_batchnorm": "true"}) == 1
    assert "training.sync_batchnorm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("precision", "lightning"), [("fp32", "32-true"), ("bf16", "bf16-mixed"), ("fp16", "16-mixed")], ids=str
)
def test_a_trainer_on_a_gpu(monkeypatch, precision, lightning):
    """Lightning is told of a GPU that is not there; nothing runs on it."""
    for package in ("fabric", "pytorch"):
        monkeypatch.setattr(f"lightning.{package}.accelerators.cuda.num_cuda_devices", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    trainer = make_trainer(Training(accelerator="gpu", precision=precision))
    assert trainer.strategy.root_device == torch.device("cuda", 0)
    plugin = trainer.precision_plugin
    assert (plugin.precision, getattr(plugin, "device", "cuda")) == (lightning, "cuda")
    # Gradients of float16 underflow unless the loss is scaled.
    assert (getattr(plugin, "scaler", None) is not None) == (precision == "fp16")
    assert Digits(batch_size=8).load().loaders(0).train.pin_memory


def test_means_weigh_by_samples():
    means = EpochMeans()
    means.update({"loss": torch.tensor(1.0)}, 3)
    means.update({"loss": torch.tensor(2.0), "rate": 0.5}, 1)
    assert means.means(SingleDeviceStrategy("cpu")) == {"loss": 1.25, "rate": 0.5}
