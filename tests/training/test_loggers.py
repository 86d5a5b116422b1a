"""Lightning's loggers by name write into the run's folder, and change nothing else."""

import csv
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from shortcut_snn import components
from shortcut_snn.components.entries import read
from shortcut_snn.training import Classification, Training

from .tiny import network, run, task

pytestmark = pytest.mark.usefixtures("bare")


def made(kind: str, **options: Any) -> Any:
    return read(components.logger, {"kind": kind} | options, "loggers")


class Falling(Classification):
    """Its first epoch is the best."""

    def on_validation_epoch_end(self) -> None:
        self.log("validation_accuracy", 1 / (1 + self.current_epoch))


def falling() -> Classification:
    return Falling(network(), training=Training(epochs=2, accelerator="cpu", threads=1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    run(folder, falling(), loggers=[made("csv"), made("tensorboard")])
    return folder


def test_loggers_receive_the_runs_figures(folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = json.loads((folder / "result.json").read_text())
    assert result["test_last"]["loss"] != result["test_best"]["loss"]
    epochs = list(csv.DictReader((folder / "metrics.csv").open()))
    expected = {
        "train_loss": [float(row["train_loss"]) for row in epochs],
        "test_loss": [result["test_last"]["loss"]],
        "test_best_loss": [result["test_best"]["loss"]],
    }
    rows = list(csv.DictReader((folder / "csv" / "version_0" / "metrics.csv").open()))
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    for name, values in expected.items():
        assert [float(row[name]) for row in rows if row[name]] == pytest.approx(values)
        assert [event.value for event in events.Scalars(name)] == pytest.approx(values)


def test_a_resumed_run_keeps_the_files(folder: Path, tmp_path: Path) -> None:
    loggers = [made("csv"), made("tensorboard")]
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    run(tmp_path / "run", falling(), loggers=loggers, resume=True)
    assert {path.name for path in (tmp_path / "run" / "csv").iterdir()} == {"version_0", "version_1"}
    assert (tmp_path / "run" / "csv" / "version_0" / "metrics.csv").is_file()
    assert {path.parent.name for path in (tmp_path / "run").rglob("events.out.*")} == {"tensorboard"}


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    # Lightning looks once.
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", False)
    with pytest.raises(ValueError, match=rf"loggers: {name} needs a package .*\[trackers\]"):
        run(tmp_path / "run", task(), loggers=[made(name)])


def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="Weights & Biases is not installed: pip install '.[trackers]'")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run(tmp_path / "run", task(epochs=1), loggers=[made("wandb", offline=True, project="spikes")])
    wandb.finish()
    assert "WANDB_MODE" not in os.environ
    assert len(list((tmp_path / "run" / "wandb").glob("offline-run-*"))) == 1


def test_mlflow_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = pytest.importorskip("mlflow.tracking", reason="MLflow is not installed: pip install '.[trackers]'")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run(tmp_path / "run", task(epochs=1), loggers=[made("mlflow", experiment_name="spikes")])
    client = tracking.MlflowClient(f"sqlite:///{tmp_path / 'run' / 'mlflow.db'}")
    (logged,) = client.search_runs([client.get_experiment_by_name("spikes").experiment_id])
    assert (logged.info.status, logged.info.run_name) == ("FINISHED", "run")
    assert logged.data.params["training/epochs"] == "1"
    assert not any(name.startswith("loggers") for name in logged.data.params), "a resumed run may name another one"
