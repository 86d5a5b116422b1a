"""Lightning's loggers by name, with their own options; each writes into the run's folder unless told otherwise."""

from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from .. import components

for _name, _class in {
    "csv": CSVLogger,
    "mlflow": MLFlowLogger,
    "tensorboard": TensorBoardLogger,
    "wandb": WandbLogger,
}.items():
    components.logger(_name)(_class)


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
