"""Two processes train one network (gloo, on the CPU), and it is the one that one process trains."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from shortcut_snn.cli.evaluate import evaluate
from shortcut_snn.training import Task
from shortcut_snn.training.averages import Averages

from . import joined
from .small import options, train

# 151 training images, a validation set and a test set that two processes do not share evenly.
SETTINGS = {
    "training__devices": 2,
    "training__strategy": "ddp",
    "training__accelerator": "cpu",
    "training__sync_batchnorm": "true",
    "training__threads": 1,
    "data__augment": "[crop]",
    "data__train_limit": 160,
    "data__test_limit": 51,
    "data__batch_size": 24,
}
ALONE = {"training__devices": 1, "training__strategy": "auto", "data__batch_size": 48}


def command(folder: Path, *more: str, **changes: object) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "shortcut_snn", "train", "--out", str(folder), *more]
    arguments += options(**SETTINGS | changes)
    return subprocess.run(arguments, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes."""
    folder = tmp_path_factory.mktemp("runs") / "pair"
    done = command(folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 2/2") == 1, "both processes spoke"
    assert done.stdout.count("network that ships") == 1
    return folder


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, joined.Steps]]:
    """What each of two processes found."""
    out = tmp_path_factory.mktemp("joined") / "steps"
    code = [sys.executable, "-m", "tests.training.joined", str(out)]
    root = Path(__file__).parents[2]
    workers = [subprocess.Popen([*code, str(rank), "2"], cwd=root, env=os.environ) for rank in range(2)]
    assert [worker.wait(timeout=240) for worker in workers] == [0, 0]
    return [torch.load(f"{out}.{rank}", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("case", joined.CASES)
def test_two_processes_are_one_with_the_joined_batch(together, case):
    losses, state = joined.steps(case, 0, 1)
    for found in together:
        own_losses, own_state = found[case]
        assert own_losses == pytest.approx(losses, rel=1e-9)
        assert own_state.keys() == state.keys()
        for key, value in state.items():
            torch.testing.assert_close(own_state[key], value, rtol=1e-8, atol=1e-10)


def test_the_command_trains_the_same(pair, tmp_path):
    alone = tmp_path / "alone"
    assert train(alone, **SETTINGS | ALONE) == 0
    mine, theirs = rows(pair), rows(alone)
    assert [row["step"] for row in mine] == [row["step"] for row in theirs] == [3, 6]
    # Single precision: rounding may flip a spike.
    assert mine[0]["train_loss"] == pytest.approx(theirs[0]["train_loss"], rel=1e-3)
    assert mine[1]["train_loss"] == pytest.approx(theirs[1]["train_loss"], rel=2e-2)


def test_samples_count_once_in_evaluation(pair):
    """25 and 26 test images: neither half counts for more."""
    result = json.loads((pair / "result.json").read_text())
    assert evaluate(pair).metrics == pytest.approx(result["test_last"], abs=1e-6)
    hits = result["test_last"]["accuracy"] * 51
    assert hits == pytest.approx(round(hits), abs=1e-3)


def test_averages_weigh_by_samples():
    halves = [Averages(), Averages()]
    halves[0].add({"loss": torch.tensor(1.0)}, 3)
    halves[1].add({"loss": torch.tensor(2.0)}, 1)
    others = {id(half): halves[1 - place].sums(lambda x: x)["loss"] for place, half in enumerate(halves)}
    for half in halves:
        assert half.means(lambda x, half=half: x + others[id(half)])["loss"].item() == 1.25


def test_another_number_of_processes_resumes(pair, tmp_path, monkeypatch, capsys):
    """One process starts, is stopped within an epoch, and two go on."""
    folder = tmp_path / "run"
    step, stop = Task.training_step, RuntimeError("stop")

    def training_step(self: Task, batch: object, batch_index: int) -> object:
        if self.global_step == 2:
            raise stop
        return step(self, batch, batch_index)

    with monkeypatch.context() as patch:
        patch.setattr(Task, "training_step", training_step)
        with pytest.raises(RuntimeError, match="stop"):
            train(folder, **SETTINGS | ALONE | {"training__checkpoint_every": 2})
    for changes, said in (
        ({"data__batch_size": 48}, "takes 48 images in a step over all processes, and this would take 96"),
        ({"training__sync_batchnorm": "false"}, "has another recipe (training.sync_batchnorm was True and is False)"),
    ):
        assert train(folder, "--resume", **SETTINGS | changes) == 1
        assert said in capsys.readouterr().err
    done = command(folder, "--resume")
    assert done.returncode == 0, done.stderr
    assert [row["train_loss"] for row in rows(folder)] == pytest.approx(
        [row["train_loss"] for row in rows(pair)], rel=2e-2
    )


def test_without_synchronised_norms_the_number_of_processes_stays(tmp_path, capsys):
    given = SETTINGS | {"training__sync_batchnorm": "false", "training__epochs": 1}
    assert train(tmp_path / "run", **given | ALONE) == 0
    (tmp_path / "run" / "result.json").unlink()
    assert train(tmp_path / "run", "--resume", **given) == 1
    assert "only a run with training.sync_batchnorm=true can change" in capsys.readouterr().err


def test_averages_of_a_checkpoint_go_where_the_run_is():
    """A checkpoint is loaded before the module is on its device; what is added later is there already."""
    averages = Averages()
    averages.load({"loss": torch.ones(2), "rate": torch.ones(2)}, torch.device("meta"), True)
    averages.add({"loss": torch.ones((), device="meta")}, 2)
    assert {pair.device.type for pair in averages.sums(lambda values: values).values()} == {"meta"}
