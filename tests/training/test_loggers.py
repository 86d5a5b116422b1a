"""Lightning's loggers by name: what they write is in the run's folder, and they change nothing else."""

import csv
import json
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import Callback

from shortcut_snn import components
from shortcut_snn.training import Classification, Training
from shortcut_snn.training.loggers import open_loggers

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
    for name in ("csv", "tensorboard"):
        with open_loggers((made(name, name="mine", version="v1"),), tmp_path) as (logger,):
            assert Path(logger.log_dir) == tmp_path / "mine" / "v1"


def test_a_resumed_run_loses_nothing(tmp_path: Path) -> None:
    loggers = [made("csv"), made("tensorboard")]
    run(tmp_path / "run", task(epochs=1), loggers=loggers)
    (tmp_path / "run" / "result.json").unlink()
    run(tmp_path / "run", task(epochs=1), loggers=loggers, resume=True)
    assert {path.name for path in (tmp_path / "run" / "csv").iterdir()} == {"version_0", "version_1"}
    assert (tmp_path / "run" / "csv" / "version_0" / "metrics.csv").is_file()
    assert {path.parent.name for path in (tmp_path / "run").rglob("events.out.*")} == {"tensorboard"}


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    # Lightning looks once.
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", False)
    with pytest.raises(ValueError, match=rf"loggers: the logger {name} needs a package: .*"):
        run(tmp_path / "run", task(), loggers=[made(name)])
    assert not (tmp_path / "run").exists()


def our_figures(folder: Path, name: str) -> list[float]:
    return [float(row[name]) for row in csv.DictReader((folder / "metrics.csv").open())]


def run_in_two_parts(folder: Path, logger: Any) -> None:
    """Train three epochs, of which the last two are those of a resumed run."""

    class Stop(Exception):
        pass

    class AfterOne(Callback):
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            if trainer.current_epoch == 1:
                raise Stop

    with pytest.raises(Stop):
        run(folder, task(epochs=3), loggers=[logger], callbacks=[AfterOne()])
    run(folder, task(epochs=3), loggers=[logger], resume=True)


def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs of a process are two of W&B's, a resumed one is the same, and nothing stays offline."""
    wandb = pytest.importorskip("wandb", reason="Weights & Biases is not installed: pip install '.[trackers]'")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    for name in ("first", "second"):
        run(tmp_path / name, task(epochs=1), loggers=[made("wandb", offline=True, project="spikes")])
    run_in_two_parts(tmp_path / "third", made("wandb", offline=True))
    assert wandb.run is None
    assert "WANDB_MODE" not in os.environ
    parts = {name: sorted((tmp_path / name / "wandb").glob("offline-run-*")) for name in ("first", "second", "third")}
    assert [len(found) for found in parts.values()] == [1, 1, 2]
    assert len({path.name for part in parts["third"] for path in part.glob("*.wandb")}) == 1, "the id"
    for name, found in parts.items():
        values = [value for part in found for file in part.glob("*.wandb") for value in kept_by_wandb(file)]
        assert values == pytest.approx(our_figures(tmp_path / name, "validation_loss"))


def kept_by_wandb(file: Path) -> Iterator[float]:
    """Read the validation losses in what ``wandb sync`` sends: records in a log of LevelDB's format."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
        length, kind = struct.unpack_from("<HB", data, at + 4)
        whole, at = whole + data[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):
            for item in Record.FromString(whole).history.item:
                if "validation_loss" in (item.key, *item.nested_key):
                    yield json.loads(item.value_json)
            whole = b""


def test_mlflow_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = pytest.importorskip("mlflow.tracking", reason="MLflow is not installed: pip install '.[trackers]'")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run_in_two_parts(tmp_path / "run", made("mlflow", experiment_name="spikes"))
    client = tracking.MlflowClient(f"sqlite:///{tmp_path / 'run' / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name("spikes").experiment_id])
    assert found.info.status == "FINISHED"
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert found.data.params["training/epochs"] == "3"
    values = [each.value for each in client.get_metric_history(found.info.run_id, "validation_accuracy")]
    assert values == pytest.approx(our_figures(tmp_path / "run", "validation_accuracy"))


def test_trackio_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It looks once, when it is imported.
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    trackio = pytest.importorskip("trackio", reason="trackio is not installed: pip install '.[trackers]'")
    from trackio.sqlite_storage import SQLiteStorage

    run(tmp_path / "other" / "run", task(epochs=1), loggers=[made("trackio", project="spikes")])
    run_in_two_parts(tmp_path / "run", made("trackio", project="spikes"))
    name = (tmp_path / "run" / "trackio.txt").read_text().strip()
    runs = {each.name: each for each in trackio.Api().runs("spikes")}
    assert len(runs) == 2
    assert runs[name].config["training/epochs"] == 3
    rows = SQLiteStorage.get_logs("spikes", name, run_id=runs[name].id)
    values = [row["validation_accuracy"] for row in rows if "validation_accuracy" in row]
    assert values == pytest.approx(our_figures(tmp_path / "run", "validation_accuracy"))
