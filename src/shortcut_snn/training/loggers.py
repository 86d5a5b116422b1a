"""Loggers by name, with their own options: Lightning's, and one for trackio, which Lightning has none for.

Each writes into the run's folder unless told otherwise (trackio has a folder of its own), and a resumed run goes on in
its tracker as the run it was.
"""

import os
import secrets
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.utilities.logger import _flatten_dict
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from .. import components


@components.logger("csv")
class CSV(CSVLogger):
    """Lightning's CSVLogger; a resumed run begins a version of its own, for Lightning would delete the one before.

    Args:
        save_dir: where its folder is made.
        name: of the folder.
        version: of a folder in that; the next free number by default.
        prefix: put before the names of the figures.
    """

    def __init__(self, save_dir: Any, name: str = "csv", version: int | str | None = None, prefix: str = "") -> None:
        super().__init__(save_dir, name, version, prefix)


@components.logger("tensorboard")
class TensorBoard(TensorBoardLogger):
    """Lightning's TensorBoardLogger; a resumed run goes on in the same folder.

    Args:
        save_dir: where its folder is made.
        name: of the folder.
        version: of a folder in that; none by default.
        prefix: put before the names of the figures.
    """

    def __init__(
        self, save_dir: Any, name: str | None = "tensorboard", version: int | str | None = "", prefix: str = ""
    ) -> None:
        super().__init__(save_dir, name, version, prefix=prefix)


@components.logger("wandb")
class WeightsAndBiases(WandbLogger):
    """Lightning's WandbLogger; a resumed run has the id that it had.

    Args:
        save_dir: where its folder is made.
        project: the W&B project.
        name: of the run, by default one of W&B's.
        entity: user or team that owns the project.
        group: of runs.
        tags: of the run.
        offline: nothing is sent; ``wandb sync`` does so later.
        id: of the run, by default one of W&B's.
        prefix: put before the names of the figures.
    """

    def __init__(
        self,
        save_dir: Any,
        project: str | None = None,
        name: str | None = None,
        entity: str | None = None,
        group: str | None = None,
        tags: tuple[str, ...] | None = None,
        offline: bool = False,
        id: str | None = None,
        prefix: str = "",
    ) -> None:
        # Lightning's own offline=True would put every later run of the process offline.
        mode: Any = {"mode": "offline"} if offline else {}
        super().__init__(
            name=name,
            save_dir=save_dir,
            id=id or _last_wandb_id(Path(save_dir)),
            project=project,
            prefix=prefix,
            entity=entity,
            group=group,
            tags=tags,
            **mode,
        )
        self._failed = False

    def finalize(self, status: str) -> None:
        """Note how it ended."""
        super().finalize(status)
        self._failed = status == "failed"

    def close(self) -> None:
        """End W&B's run: the next one of the process would go into it."""
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(self._failed))


def _last_wandb_id(folder: Path) -> str | None:
    """Return the id of the last run that W&B has put into a folder."""
    files = sorted(folder.glob("wandb/*run-*/run-*.wandb"), key=lambda file: file.stat().st_mtime)
    return files[-1].stem.removeprefix("run-") if files else None


@components.logger("mlflow")
class MLflow(MLFlowLogger):
    """Lightning's MLFlowLogger, with a database in the run's folder unless a server is named.

    A run that is resumed with that database goes on as the run it was.

    Args:
        save_dir: where ``mlflow.db`` is made, and ``mlruns`` for what is no figure.
        tracking_uri: of a server or of another database; by default the environment's ``MLFLOW_TRACKING_URI``.
        run_id: of a run of theirs to go on with.
        experiment_name: the experiment to which the run belongs.
        run_name: of the run, by default one of MLflow's.
        prefix: put before the names of the figures.
        artifact_location: where artifacts go.
    """

    def __init__(
        self,
        save_dir: Any,
        tracking_uri: str | None = None,
        run_id: str | None = None,
        experiment_name: str = "lightning_logs",
        run_name: str | None = None,
        prefix: str = "",
        artifact_location: str | None = None,
    ) -> None:
        import mlflow
        import sqlalchemy  # noqa: F401

        self._mlflow, self._said_before = mlflow, os.environ.get("MLFLOW_TRACKING_URI")
        tracking_uri = tracking_uri or self._said_before
        options: Any = {"experiment_name": experiment_name, "run_name": run_name, "prefix": prefix, "run_id": run_id}
        if tracking_uri:
            super().__init__(tracking_uri=tracking_uri, artifact_location=artifact_location, **options)
            return
        # MLflow's newer versions refuse a plain folder.
        folder = Path(save_dir).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        options["artifact_location"] = artifact_location or (folder / "mlruns").as_uri()
        super().__init__(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", **options)
        experiment = self._mlflow_client.get_experiment_by_name(self._experiment_name)
        if run_id is None and experiment is not None:
            runs = self._mlflow_client.search_runs([experiment.experiment_id], max_results=1)
            self._run_id = runs[0].info.run_id if runs else None

    def close(self) -> None:
        """Take back what Lightning says to the whole process, and its children: where figures go."""
        self._mlflow.set_tracking_uri(self._said_before)


@components.logger("trackio")
class Trackio(Logger):
    """Figures for trackio, which keeps them in its own folder (``TRACKIO_DIR``); ``trackio show`` shows them.

    Args:
        save_dir: the run's folder; ``trackio.txt`` in it says under which name trackio has the run.
        project: of trackio.
        name: of the run; by default its folder's, and some letters that make it one of a kind.
        group: of runs.
        space_id: of a Hugging Face Space that they are sent to.
        server_url: of a server of trackio's that they are sent to.
    """

    def __init__(
        self,
        save_dir: Any,
        project: str = "shortcut-snn",
        name: str | None = None,
        group: str | None = None,
        space_id: str | None = None,
        server_url: str | None = None,
    ) -> None:
        import trackio

        super().__init__()
        self._trackio, self._folder, self._project, self._name = trackio, Path(save_dir), project, name
        self._where = {"group": group, "space_id": space_id, "server_url": server_url}
        self._config: dict[str, Any] = {}
        self._run: Any = None

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Trackio's run."""
        if self._run is None:
            known = self._folder / "trackio.txt"
            resumed = known.is_file()
            if resumed:
                self._name = known.read_text(encoding="utf-8").strip()
            else:
                self._name = self._name or f"{self._folder.resolve().name}-{secrets.token_hex(4)}"
                known.write_text(self._name + "\n", encoding="utf-8")
            self._run = self._trackio.init(
                self._project,
                self._name,
                config=self._config,
                resume="allow" if resumed else "never",
                embed=False,
                **self._where,
            )
        return self._run

    @property
    def name(self) -> str:
        """Of the project."""
        return self._project

    @property
    def version(self) -> str | None:
        """Name of the run, once there is one."""
        return self._name

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Keep what was asked for, for the run that begins with its first figures."""
        self._config = _flatten_dict(params if isinstance(params, dict) else vars(params))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Hand figures on."""
        self.experiment.log(dict(metrics), step=step)

    @rank_zero_only
    def close(self) -> None:
        """Wait until everything is written."""
        if self._run is not None:
            self._trackio.finish()


@contextmanager
def open_loggers(chosen: Sequence[Any], folder: Path) -> Iterator[list[Logger]]:
    """Give loggers of components; in the end those are closed that have a ``close()``.

    Args:
        chosen: components.
        folder: of the run.

    Raises:
        ValueError: a package that one needs is not installed.
    """
    made = []
    for component in chosen:
        name = components.component_of(component).name
        try:
            made.append(component.build(save_dir=folder))
        except ModuleNotFoundError as error:
            raise ValueError(f"loggers: the logger {name} needs a package: {error}") from None
    try:
        yield made
    finally:
        for logger in made:
            if hasattr(logger, "close"):
                logger.close()


def as_best(test: Callable[[], dict[str, float]], loggers: Sequence[Logger]) -> dict[str, float]:
    """Test the network of the best epoch, whose figures loggers get as ``test_best_...``.

    As ``test_...`` they would take the place of those of the last epoch's.

    Args:
        test: tests, and returns figures.
        loggers: of the trainer.
    """

    def renamed(log: Callable[..., None], metrics: Mapping[str, float], step: int | None = None) -> None:
        names = {name: name if name == "epoch" else f"test_best_{name.removeprefix('test_')}" for name in metrics}
        log(metrics={names[name]: value for name, value in metrics.items()}, step=step)

    with ExitStack() as afterwards:
        for logger in loggers:
            afterwards.callback(setattr, logger, "log_metrics", logger.log_metrics)
            logger.log_metrics = partial(renamed, logger.log_metrics)  # type: ignore[method-assign]
        return test()
