"""Lightning's loggers by name: what they write is in the run's folder, and they change nothing else."""

import csv
from pathlib import Path
from typing import Any

import pytest

from shortcut_snn import components
from shortcut_snn.runs.loggers import make_loggers

from .tiny import run, task

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


def test_options_are_lightnings(tmp_path: Path) -> None:
    for name in ("csv", "tensorboard"):
        (logger,) = make_loggers((made(name, name="mine", version="v1"),), tmp_path)
        assert Path(logger.log_dir) == tmp_path / "mine" / "v1"


def test_a_resumed_run_loses_nothing(tmp_path: Path) -> None:
    loggers = [made("csv"), made("tensorboard")]
    run(tmp_path / "run", task(epochs=1), loggers=loggers)
    (tmp_path / "run" / "result.json").unlink()
    run(tmp_path / "run", task(epochs=1), loggers=loggers, resume=True)
    assert {path.name for path in (tmp_path / "run" / "csv").iterdir()} == {"version_0", "version_1"}
    assert (tmp_path / "run" / "csv" / "version_0" / "metrics.csv").is_file()
    assert {path.parent.name for path in (tmp_path / "run").rglob("events.out.*")} == {"tensorboard"}


@pytest.mark.parametrize(("name", "package"), [("wandb", "wandb"), ("mlflow", "mlflow")])
def test_a_package_that_is_missing_is_named(tmp_path: Path, name: str, package: str) -> None:
    try:
        __import__(package)
    except ModuleNotFoundError:
        with pytest.raises(ValueError, match=rf"loggers: the logger {name} needs a package: .*{package}"):
            run(tmp_path / "run", task(), loggers=[made(name)])
        assert not (tmp_path / "run").exists()
        return
    pytest.skip(f"{package} is installed")


def test_wandb_by_name(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    run(tmp_path / "run", task(epochs=1), loggers=[made("wandb", offline=True)])
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*"))


def test_mlflow_by_name(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    run(tmp_path / "run", task(epochs=1), loggers=[made("mlflow")])
    assert list((tmp_path / "run").rglob("train_loss"))
