"""``shortcut-snn export``: write a run's network to a file for use elsewhere, checked on the run's test data."""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import __version__, components
from ..components import component_of, write
from ..data import Data, ImageData
from ..deploy import (
    CARD,
    ENERGY,
    README,
    Agreement,
    Card,
    Exporter,
    Inference,
    InputSpec,
    NetworkSpec,
    describe_inputs,
    export_network,
    load,
    onnx_logits,
    read_card,
    write_card,
)
from ..energy import measure_energy
from ..recipes import Recipe, is_network_of, open_run
from ..training import ENERGY_SAMPLES, RunFolder

OPTIONS = {"streaming": "one time step", "half": "half precision", "int8": "int8"}
"""Options of formats, and how the card calls them."""
ROUNDED = ("half", "int8")
"""Options that round weights."""


@dataclass(frozen=True)
class Stated:
    """Facts for the card that no file of the run holds; None keeps what an earlier export stated.

    Args:
        name: name of the network; by default that of the run's folder.
        licence: licence of the weights, as the Hugging Face hub writes it (``"apache-2.0"``).
        data_name: name of the data set; by default that of the recipe.
        data_licence: licence of the data set.
    """

    name: str | None = None
    licence: str | None = None
    data_name: str | None = None
    data_licence: str | None = None


def export(
    run: str | Path,
    to: str | Exporter,
    out: str | Path | None = None,
    *,
    weights: str = "last",
    images: int = 256,
    changes: dict[str, Any] | None = None,
    stated: Stated = Stated(),
) -> tuple[Path, Agreement]:
    """Export a run's network; :func:`~shortcut_snn.deploy.export_network` says what is checked.

    Args:
        run: folder of the run.
        to: an export format with its options, such as ``ONNX(int8=True)``, or the name of a format.
        out: folder for the file and the card; by default ``export`` in the run's folder.
        weights: ``"last"`` or ``"best"``.
        images: number of the run's test images that are compared.
        changes: entries that replace those of the run's recipe, such as where the data is now.
        stated: facts for the card.

    Returns:
        The file, and its agreement with the network.

    Raises:
        FileNotFoundError: the run or its data do not exist.
        OSError: a package that the format needs is not installed.
        ValueError: the run is damaged, the data does not fit the network, or the file differs from the network.
    """
    exporter: Exporter = components.exporter.make(to) if isinstance(to, str) else to
    if images < 1:
        raise ValueError(f"images must be at least 1, got {images}")
    source = RunFolder(run)
    task, data, recipe = open_run(run, weights, changes)
    folder = Path(out) if out else source / "export"
    _check_target(folder)
    batch, _ = data.sample(images)
    description = dict(data.description) | task.description
    _check_data(description, batch)
    spec = NetworkSpec(recipe.network, recipe.neuron, description)
    # Made before the export, which would leave a file if the run's own files turn out to be damaged.
    card = _card(source, recipe, data, spec, weights)
    card = _with_statements(card, stated, folder)
    path, agreement = export_network(task.model.strip(), spec, batch, exporter, folder)
    options = [option for option in OPTIONS if getattr(exporter, option, False)]
    if "half" in options:
        network = load(path)
        card = replace(card, accuracy=_accuracy(network.predict, data, task.metric), energy=_energy(network, data))
    elif "int8" in options:
        logits = onnx_logits(path, spec)
        accuracy = _accuracy(lambda inputs: logits(inputs).argmax(-1), data, task.metric)
        card = replace(card, accuracy=accuracy, energy=None)
    label = ", ".join([component_of(exporter).name, *(OPTIONS[option] for option in options)])
    others = {key: file for key, file in card.files.items() if file != path.name}
    write_card(replace(card, files=others | {label: path.name}), folder)
    return path, agreement


def _check_target(folder: Path) -> None:
    """Check that an export to this folder replaces nothing but an earlier export."""
    if (folder / README).is_file() and not (folder / CARD).is_file():
        raise FileExistsError(f"{folder / README} is not the README of a network, and would be replaced")
    if RunFolder(folder).is_run:
        raise ValueError(f"{folder} holds a run, whose network the export would replace: choose another folder")


def _check_data(description: dict[str, Any], batch: Tensor) -> None:
    """Check that the data is what an exported network takes.

    Raises:
        ValueError: the description lacks an entry, or the images have another type or size.
    """
    required = [field.name for field in fields(InputSpec) if field.default is MISSING]
    if missing := [name for name in required if name not in description]:
        raise ValueError(
            f"export needs images or frames of events with classes, and the data's description has no "
            f"{', '.join(missing)}: add it in as_data(..., description=...)"
        )
    if description["kind"] == "static" and batch.dtype != torch.uint8:
        raise ValueError(
            f"an exported network takes images as uint8, and this data is {batch.dtype}: train on uint8 images, with "
            "mean and std in the data's description"
        )
    expected, shape = [description["channels"], *description["image_size"]], list(batch.shape[-3:])
    if shape != expected:
        raise ValueError(
            f"the network takes images of {_size(expected)}, and the data has {_size(shape)}: leave data.image_size "
            "and data.size as they are in the run"
        )


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _card(run: RunFolder, recipe: Recipe, data: Data, spec: NetworkSpec, weights: str) -> Card:
    """Return the card of a run's network, without files."""
    # The result holds for the run's own recipe only, not for one with changes.
    result = run.read_result() if run.is_finished and is_network_of(run, recipe) else {}
    accuracy = {
        part: scores["accuracy"]
        for part in ("test", "validation")
        if "accuracy" in (scores := result.get(f"{part}_{weights}") or {})
    }
    energy = {key: result[key] for key in ENERGY if result.get(key) is not None}
    parts = ("train", "validation", "test") if isinstance(data, ImageData) else ()
    shown = ("kind", "classes", "channels", "image_size")
    return Card(
        name=run.path.resolve().name,
        data={
            "name": component_of(recipe.data).name,
            **{key: spec.data[key] for key in shown if key in spec.data},
            "samples": {part: len(getattr(data, part)) for part in parts},
        },
        recipe=_public_recipe(recipe),
        accuracy=accuracy,
        # Energy is measured with the weights of the last epoch.
        energy=energy if energy and weights == "last" else None,
        version=__version__,
        inputs=describe_inputs(spec),
        weights=_epoch(run, weights, recipe.training.epochs),
    )


def _public_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe's entries without paths of this machine, and without loggers, which may hold passwords."""
    entries = recipe.to_dict()
    paths = [key for key, value in entries["data"].items() if isinstance(value, str) and os.path.isabs(value)]
    entries["data"] |= {key: None for key in ("root", "cache", *paths) if key in entries["data"]}
    entries["loggers"] = []
    public: dict[str, Any] = write(entries)
    return public


def _with_statements(card: Card, stated: Stated, folder: Path) -> Card:
    """Add what the user states; keep what an earlier export of the same network stated, and its files."""
    earlier = read_card(folder) if (folder / CARD).is_file() else None
    if (
        earlier is not None
        and (earlier.recipe, earlier.weights) == (card.recipe, card.weights)
        and stated.name in (None, earlier.name)
    ):
        kept = {key: earlier.data[key] for key in ("name", "licence") if key in earlier.data}
        # Files with another accuracy have other weights, such as rounded ones.
        files = earlier.files if earlier.accuracy == card.accuracy else {}
        card = replace(card, name=earlier.name, licence=earlier.licence, data=card.data | kept, files=files)
    data = {"name": stated.data_name, "licence": stated.data_licence}
    return replace(
        card,
        name=stated.name or card.name,
        licence=stated.licence or card.licence,
        data=card.data | {key: value for key, value in data.items() if value is not None},
    )


def _accuracy(predict: Callable[[Tensor], Tensor], data: Data, metric: str) -> dict[str, float]:
    """Return the accuracy of rounded weights on all test data, for the card."""
    if metric != "accuracy":
        return {}
    right = torch.cat([predict(images) == labels for images, labels in data.loaders(0).test])
    return {"test": int(right.sum()) / len(right)}


def _energy(network: Inference, data: Data) -> dict[str, float]:
    """Return the energy of a network with rounded weights, for the card."""
    inputs = network.prepare(data.sample(ENERGY_SAMPLES)[0])
    report = measure_energy(network.network, [inputs], network.spec.time_steps)
    return {key: getattr(report, key.removesuffix("_pj")) for key in ENERGY}


def _epoch(run: RunFolder, weights: str, planned: int) -> str:
    """Return a phrase on the epoch that a run's weights are from."""
    table = run.table("metrics")
    done = len(table.read_text(encoding="utf-8").splitlines()) - 1 if table.is_file() else planned
    which = "the last" if weights == "last" else "the best in validation"
    return f"after {which} of {done} epochs" + (f" ({planned} were planned)" if done != planned else "")


def run(options: argparse.Namespace) -> int:
    """Export, and print the agreement of the file with the network."""
    chosen = {name: True for name in OPTIONS if getattr(options, name)}
    for name in chosen:
        if name not in components.exporter[options.to].options:
            raise ValueError(f"--{name}: {options.to} files have no such option")
    exporter: Exporter = components.exporter.make(options.to, **chosen)
    stated = Stated(options.name, options.licence, options.data_name, options.data_licence)
    path, agreement = export(
        options.run,
        exporter,
        options.out,
        weights=options.weights,
        images=options.images,
        changes=options.changes,
        stated=stated,
    )
    print(f"{path}: {exporter.summary}\n{agreement}\ncard: {path.parent / CARD} and {README}")
    for option in set(ROUNDED) & chosen.keys():
        for part, value in read_card(path.parent).accuracy.items():
            print(f"{part} accuracy in {OPTIONS[option]}: {100 * value:.2f} %")
    return 0
