"""``shortcut-snn export``: write a run's network to a file for use elsewhere, checked on the run's test data."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import MISSING, fields, replace
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
    Agreement,
    Card,
    Exporter,
    Inference,
    InputSpec,
    NetworkSpec,
    OnnxRuntime,
    check_no_other_readme,
    describe_inputs,
    export_network,
    file_name,
    load,
    read_card,
    write_card,
)
from ..energy import measure_energy
from ..recipes import Recipe, is_network_of, open_run
from ..training import ENERGY_SAMPLES, RunFolder

ROUNDED = {"half": "half precision", "int8": "int8"}
"""Options that round weights, and how the card calls them."""


def export(
    run: str | Path,
    to: str,
    out: str | Path | None = None,
    *,
    streaming: bool = False,
    weights: str = "last",
    images: int = 256,
    name: str | None = None,
    changes: dict[str, Any] | None = None,
    half: bool = False,
    int8: bool = False,
    licence: str | None = None,
    data_name: str | None = None,
    data_licence: str | None = None,
) -> tuple[Path, Agreement]:
    """Export a run's network; :func:`~shortcut_snn.deploy.export_network` says what is checked.

    Args:
        run: folder of the run.
        to: format: ``"safetensors"``, ``"onnx"``, ``"nir"``, ``"torch-export"``, or a registered one.
        out: folder for the file and the card; by default ``export`` in the run's folder.
        streaming: write a graph of one time step.
        weights: ``"last"`` or ``"best"``.
        images: number of the run's test images that are compared.
        name: name of the network on its card; by default that of the run's folder.
        changes: entries that replace those of the run's recipe, such as where the data is now.
        half: store weights in half precision (safetensors only).
        int8: store weights in int8 (onnx only).
        licence: licence of the weights for the card, as the Hugging Face hub writes it (``"apache-2.0"``).
        data_name: name of the data set for the card; by default that of the recipe.
        data_licence: licence of the data set for the card.

    Returns:
        The file, and its agreement with the network.

    Raises:
        FileNotFoundError: the run or its data do not exist.
        OSError: a package that the format needs is not installed.
        ValueError: the run is damaged, the data does not fit the network, or the file differs from the network.
    """
    exporter = _exporter(to, half, int8)
    file = file_name(exporter, streaming)
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
    if name is not None:
        card = replace(card, name=name)
    card = _with_earlier_export(card, folder, name)
    path, agreement = export_network(task.model.strip(), spec, batch, exporter, folder, streaming)
    if half:
        card = replace(card, **_measured(load(path), data, task.metric, with_energy=True))
    if int8:
        rounded = Inference(OnnxRuntime(path, spec, streaming), spec)
        card = replace(card, **_measured(rounded, data, task.metric, with_energy=False))
    what = [to, *(ROUNDED[option] for option, on in (("half", half), ("int8", int8)) if on)]
    what += ["one time step"] if streaming else []
    stated = {"name": data_name, "licence": data_licence}
    card = replace(
        card,
        licence=card.licence if licence is None else licence,
        data=card.data | {key: value for key, value in stated.items() if value is not None},
        files={key: value for key, value in card.files.items() if value != file} | {", ".join(what): file},
    )
    write_card(card, folder)
    return path, agreement


def _exporter(to: str, half: bool, int8: bool) -> Exporter:
    """Return the exporter of a format.

    Raises:
        ValueError: the format does not exist, or does not store weights so.
    """
    if half and to != "safetensors":
        raise ValueError(f"half: only safetensors files have half-precision weights, not {to}")
    if int8 and to != "onnx":
        raise ValueError(f"int8: only onnx files have int8 weights, not {to}")
    options = {option: True for option, on in (("half", half), ("int8", int8)) if on}
    exporter: Exporter = components.exporter.make(to, **options)
    return exporter


def _check_target(folder: Path) -> None:
    """Check that an export to this folder replaces nothing but an earlier export."""
    check_no_other_readme(folder)
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


def _with_earlier_export(card: Card, folder: Path, name: str | None) -> Card:
    """Keep what an earlier export of the same network wrote on the card in a folder: names, licences and files."""
    earlier = read_card(folder) if (folder / CARD).is_file() else None
    if earlier is None or (earlier.recipe, earlier.weights) != (card.recipe, card.weights):
        return card
    if name not in (None, earlier.name):
        return card
    stated = {key: earlier.data[key] for key in ("name", "licence") if key in earlier.data}
    # Files with another accuracy have other weights, such as rounded ones.
    files = earlier.files if earlier.accuracy == card.accuracy else {}
    return replace(card, name=earlier.name, licence=earlier.licence, data=card.data | stated, files=files)


def _measured(network: Inference, data: Data, metric: str, with_energy: bool) -> dict[str, Any]:
    """Return the accuracy, on all test data, and the energy of a network with rounded weights, for its card."""
    accuracy: dict[str, float] = {}
    if metric == "accuracy":
        right = torch.cat([network.predict(images) == labels for images, labels in data.loaders(0).test])
        accuracy["test"] = int(right.sum()) / len(right)
    if not with_energy:
        return {"accuracy": accuracy, "energy": None}
    runtime: Any = network.runtime
    inputs = runtime.prepare(data.sample(ENERGY_SAMPLES)[0])
    report = measure_energy(runtime.network, [inputs], network.spec.time_steps)
    return {"accuracy": accuracy, "energy": {key: getattr(report, key.removesuffix("_pj")) for key in ENERGY}}


def _epoch(run: RunFolder, weights: str, planned: int) -> str:
    """Return a phrase on the epoch that a run's weights are from."""
    table = run.table("metrics")
    done = len(table.read_text(encoding="utf-8").splitlines()) - 1 if table.is_file() else planned
    which = "the last" if weights == "last" else "the best in validation"
    return f"after {which} of {done} epochs" + (f" ({planned} were planned)" if done != planned else "")


def run(options: argparse.Namespace) -> int:
    """Export, and print the agreement of the file with the network."""
    path, agreement = export(
        options.run,
        options.to,
        options.out,
        streaming=options.streaming,
        weights=options.weights,
        images=options.images,
        name=options.name,
        changes=options.changes,
        half=options.half,
        int8=options.int8,
        licence=options.licence,
        data_name=options.data_name,
        data_licence=options.data_licence,
    )
    summary = components.exporter.make(options.to).summary
    print(f"{path}: {summary}\n{agreement}\ncard: {path.parent / CARD} and README.md")
    for option, what in ROUNDED.items():
        for part, value in read_card(path.parent).accuracy.items() if getattr(options, option) else ():
            print(f"{part} accuracy in {what}: {100 * value:.2f} %")
    return 0
