"""Lightning's loggers by name, with their own options; each writes into the run's folder by default."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import components


@components.logger("csv")
def csv_logger(save_dir: Any, *, name: str = "csv") -> Any:
    """Return Lightning's CSVLogger; a resumed run writes a new version of the files.

    Args:
        name: name of the subfolder.
    """
    from lightning.pytorch.loggers import CSVLogger

    return CSVLogger(save_dir, name)


@components.logger("tensorboard")
def tensorboard_logger(save_dir: Any, *, name: str = "tensorboard", version: str = "") -> Any:
    """Return Lightning's TensorBoardLogger; a resumed run continues in the same folder.

    Args:
        name: name of the subfolder.
        version: name of a folder within the subfolder; none by default.
    """
    if "$" in str(save_dir):
        raise ValueError(f"loggers: tensorboard takes $ in {save_dir} for a variable; name another folder")
    # Lightning imports it when it logs first, and hides that it is missing.
    import tensorboard  # noqa: F401
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(save_dir, name, version)


@components.logger("wandb")
def wandb_logger(
    save_dir: Any,
    *,
    project: str | None = None,
    name: str | None = None,
    group: str | None = None,
    entity: str | None = None,
    id: str | None = None,
    offline: bool = False,
) -> Any:
    """Return Lightning's WandbLogger.

    Args:
        project: name of the project in Weights & Biases.
        name: name of the run.
        group: name of the group of runs.
        entity: user or team.
        id: identifier of the run; give the same one to resume it.
        offline: whether nothing is sent; ``wandb sync`` sends it later.
    """
    from lightning.pytorch.loggers import WandbLogger

    # Lightning's own offline=True would set every later run of this process offline.
    mode: Any = {"mode": "offline"} if offline else {}
    return WandbLogger(save_dir=save_dir, project=project, name=name, group=group, entity=entity, id=id, **mode)


@components.logger("mlflow")
def mlflow_logger(
    save_dir: Any,
    *,
    experiment_name: str = "lightning_logs",
    run_name: str | None = None,
    tracking_uri: str | None = None,
    run_id: str | None = None,
) -> Any:
    """Return Lightning's MLFlowLogger, with a database in the run's folder unless ``tracking_uri`` names a server.

    Args:
        experiment_name: name of the experiment.
        run_name: name of the run; by default that of its folder.
        tracking_uri: address of a server or a database; by default the environment variable MLFLOW_TRACKING_URI.
        run_id: identifier of a run to resume.
    """
    from lightning.pytorch.loggers import MLFlowLogger

    artifacts = None
    tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if tracking_uri is None:
        # Newer versions of MLflow refuse plain folders.
        folder = Path(save_dir).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        tracking_uri, artifacts = f"sqlite:///{folder / 'mlflow.db'}", (folder / "mlruns").as_uri()
    # The names that MLflow draws are those of the run's seed: the same for many runs.
    run_name = run_name or Path(save_dir).name
    return MLFlowLogger(
        experiment_name, run_name, tracking_uri=tracking_uri, run_id=run_id, artifact_location=artifacts
    )


def make_loggers(chosen: Sequence[Any], folder: Path) -> list[Any]:
    """Return the loggers of components."""
    loggers = []
    for component in chosen:
        try:
            loggers.append(components.logger.check(component).build(save_dir=folder))
        except ModuleNotFoundError as error:
            name = components.component_of(component).name
            message = f"loggers: {name} needs a package ({error}): pip install 'shortcut-snn[trackers]'"
            raise ValueError(message) from None
    return loggers
