"""Lightning's loggers by name: what they write is in the run's folder, and they change nothing else."""

import csv
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from shortcut_snn import components
from shortcut_snn.training import Classification, Training
from shortcut_snn.training.loggers import make_loggers

from .tiny import network, run, task

pytestmark = pytest.mark.usefixtures("bare")


def made(kind: str, **options: Any) -> Any:
    return components.read(components.logger, {"kind": kind} | options, "loggers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    run(folder, task(epochs=3), loggers=[made("csv"), made("tensorboard")])
    return folder


def test_csv_by_name(folder: Path) -> None:
    path = folder / "csv" / "version_0" / "metrics.csv"
    rows = [row for row in csv.DictReader(path.open()) if row["train_loss"]]
    ours = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [float(row["train_loss"]) for row in rows] == pytest.approx([float(row["train_loss"]) for row in ours])


def test_tensorboard_by_name(folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    values = [event.value for event in events.Scalars("validation_accuracy")]
    ours = list(csv.DictReader((folder / "metrics.csv").open()))
    assert values == pytest.approx([float(row["validation_accuracy"]) for row in ours])


def test_without_one_there_is_none_and_the_run_is_the_same(folder: Path, tmp_path: Path) -> None:
    run(tmp_path / "run", task(epochs=3))
    assert not [path for path in (tmp_path / "run").iterdir() if path.is_dir()]
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == (folder / "metrics.csv").read_bytes()


def test_figures_of_the_last_and_the_best_network_stay_apart(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    class Falling(Classification):
        def on_validation_epoch_end(self) -> None:
            self.log("validation_accuracy", 1 / (1 + self.current_epoch))

    what = Falling(network(), training=Training(epochs=3, accelerator="cpu", threads=1))
    result = run(tmp_path / "run", what, loggers=[made("csv"), made("tensorboard")])
    assert result["best_epoch"] == 1
    assert result["test_last"]["loss"] != result["test_best"]["loss"]
    rows = list(csv.DictReader((tmp_path / "run" / "csv" / "version_0" / "metrics.csv").open()))
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    for name, expected in (("test_loss", result["test_last"]), ("test_best_loss", result["test_best"])):
        assert [float(row[name]) for row in rows if row[name]] == pytest.approx([expected["loss"]])
        assert [event.value for event in events.Scalars(name)] == pytest.approx([expected["loss"]])


def test_options_are_lightnings(tmp_path: Path) -> None:
    (csv_logger, tensorboard) = make_loggers(
        (made("csv", name="mine"), made("tensorboard", name="mine", version="v1")), tmp_path
    )
    assert Path(csv_logger.log_dir).parent == tmp_path / "mine"
    assert Path(tensorboard.log_dir) == tmp_path / "mine" / "v1"


def test_a_resumed_run_loses_nothing(tmp_path: Path) -> None:
    loggers = [made("csv"), made("tensorboard")]
    run(tmp_path / "run", task(epochs=1), loggers=loggers)
    (tmp_path / "run" / "result.json").unlink()
    run(tmp_path / "run", task(epochs=1), loggers=loggers, resume=True)
    assert {path.name for path in (tmp_path / "run" / "csv").iterdir()} == {"version_0", "version_1"}
    assert (tmp_path / "run" / "csv" / "version_0" / "metrics.csv").is_file()
    assert {path.parent.name for path in (tmp_path / "run").rglob("events.out.*")} == {"tensorboard"}


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    # Lightning looks once.
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", False)
    with pytest.raises(ValueError, match=rf"loggers: {name} needs a package"):
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
    assert logged.info.status == "FINISHED"
    assert logged.data.params["training/epochs"] == "1"
