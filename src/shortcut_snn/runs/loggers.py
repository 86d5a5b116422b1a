"""Lightning's loggers by name, with their own options; each writes into the run's folder unless told otherwise."""

from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from .. import components

components.logger("mlflow")(MLFlowLogger)
components.logger("wandb")(WandbLogger)


@components.logger("csv")
class CSV(CSVLogger):
    """Lightning's CSVLogger; a resumed run begins a version of its own, for Lightning would delete the one before.

    Args:
        save_dir: where its folder is made.
        name: of the folder.
        options: the rest of Lightning's.
    """

    def __init__(self, save_dir: Any, name: str = "csv", **options: Any) -> None:
        super().__init__(save_dir, name, **options)


@components.logger("tensorboard")
class TensorBoard(TensorBoardLogger):
    """Lightning's TensorBoardLogger; a resumed run goes on in the same folder.

    Args:
        save_dir: where its folder is made.
        name: of the folder.
        version: of a folder in that; none by default.
        options: the rest of Lightning's, and of torch's SummaryWriter.
    """

    def __init__(
        self, save_dir: Any, name: str | None = "tensorboard", version: int | str | None = "", **options: Any
    ) -> None:
        super().__init__(save_dir, name, version, **options)


def make_loggers(chosen: tuple[Any, ...], folder: Path) -> list[Logger]:
    """Return loggers of components.

    Args:
        chosen: components.
        folder: of the run.

    Raises:
        ValueError: a package that one needs is not installed.
    """
    made = []
    for component in chosen:
        kind, name = components.kind_and_name(component)
        try:
            made.append(component.build(save_dir=folder))
        except ModuleNotFoundError as error:
            raise ValueError(f"loggers: the {kind.name} {name} needs a package: {error}") from None
    return made
