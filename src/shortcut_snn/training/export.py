"""A run's network for use elsewhere: exported, checked on the run's own test data, with a card beside it."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..data import ImageData
from ..deploy.card import CARD, Card, read_card, write_card
from ..deploy.describe import from_run
from ..deploy.export import export_network
from ..deploy.formats import FORMATS, file_name
from .evaluate import load_run, load_run_data
from .methods import resolved
from .recipe import Recipe
from .resume import RESULT
from .run import read_result

ENERGY = {"an image, pJ (45 nm)": "energy_pj", "the same with ReLUs, pJ": "relu_energy_pj"}
"""What a run measured of it, by how the card puts it."""


def export(
    run: Path,
    to: str,
    out: Path | None = None,
    *,
    streaming: bool = False,
    weights: str = "last",
    images: int = 256,
    name: str | None = None,
    tell: Callable[[str], None] = print,
) -> Path:
    """Export a run's network; see :func:`~shortcut_snn.deploy.export.export_network` for what is checked.

    Args:
        run: folder of the run.
        to: ``"safetensors"``, ``"onnx"``, ``"nir"`` or ``"torch-export"``.
        out: folder for the file and the card; ``export`` in the run's by default.
        streaming: a graph of one time step.
        weights: ``"last"`` or ``"best"``.
        images: how many of the run's test images are compared.
        name: of the network on its card; by default that of the run's folder.
        tell: takes lines for a person.

    Returns:
        The file.

    Raises:
        FileNotFoundError: no run there, or its data are gone.
        OSError: a package that the format needs is not installed.
        ValueError: damaged files, other data than the run's, or an export that differs.
    """
    file_name(to, streaming)
    if images < 1:
        raise ValueError(f"--images: at least 1 is needed to compare, got {images}")
    network, recipe, said = load_run(run, weights)
    about = from_run(resolved(recipe).to_dict(), said)
    data = load_run_data(run, recipe, said)
    batch = data.test.fetch(np.arange(min(images, len(data.test))))
    folder = out or run / "export"
    path, agreement = export_network(network, about, batch, to, folder, streaming)
    files = {to + (", one time step" if streaming else ""): path.name}
    write_card(_card(run, recipe, data, said, weights, name or run.resolve().name, folder, files), folder)
    tell(f"{path}: {FORMATS[to].says}\n{agreement}\ncard: {folder / CARD} and README.md")
    return path


def _card(
    run: Path,
    recipe: Recipe,
    data: ImageData,
    said: dict[str, Any],
    weights: str,
    name: str,
    folder: Path,
    files: dict[str, str],
) -> Card:
    result = read_result(run) if (run / RESULT).is_file() else {}
    measured = {"test": f"test_accuracy_{weights}", "validation": f"validation_accuracy_{weights}"}
    entries = copy.deepcopy(recipe.to_dict())
    # Where the files lay is nobody's business.
    entries["data"]["root"] = None
    entries["data"]["events"]["cache"] = None
    kept = {key: said[key] for key in ("classes", "channels", "image_size")}
    accuracy = {what: result[key] for what, key in measured.items() if result.get(key) is not None}
    # Measured on the network of the last epoch.
    energy = {what: result[key] for what, key in ENERGY.items() if result.get(key) is not None}
    before = read_card(folder) if (folder / CARD).is_file() else None
    # Files of another network stay where they are, but it is not they that this card speaks of.
    same = before is not None and (before.name, before.recipe, before.accuracy) == (name, entries, accuracy)
    sizes = {part: len(getattr(data, part)) for part in ("train", "validation", "test")}
    return Card(
        name=name,
        data={"name": recipe.data.name, "kind": data.kind, **kept, "samples": sizes},
        recipe=entries,
        accuracy=accuracy,
        energy=energy if energy and weights == "last" else None,
        files=(before.files if before is not None and same else {}) | files,
        version=__version__,
    )
