"""``shortcut-snn export``: a run's network for use elsewhere, checked on the run's own test data."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import torch

from .. import __version__, components
from ..components import component_of, write
from ..data import Data, ImageData
from ..deploy import Agreement, Card, Description, Inference, export_network, file_name
from ..deploy.card import CARD, check_ours, read_card, write_card
from ..deploy.describe import Images
from ..deploy.inference import load_file
from ..deploy.onnx_export import OnnxRuntime
from ..deploy.prepare import in_words
from ..energy import measure_energy
from ..recipes import open_run
from ..recipes.build import is_network_of
from ..recipes.recipe import Recipe
from ..training import ENERGY_SAMPLES, RunFolder

HELP = "export a trained network"
DESCRIPTION = (
    "Export a run's network for use elsewhere: batch norms folded into convolutions, the file run again and compared "
    "with the network on the run's test images. What differs is refused."
)
RUN = True
ENERGY = {
    "an input, pJ (45 nm)": "energy_pj",
    "the same with ReLUs, pJ": "relu_energy_pj",
    "an input with memory, pJ": "total_energy_pj",
    "quantised with memory, pJ": "quantised_energy_pj",
}
"""What a run measured of it, by how the card puts it."""
COARSE = {"half": "half precision", "int8": "int8"}
"""Options that round weights, by how the card puts it."""


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
    """Export a run's network; see :func:`~shortcut_snn.deploy.export_network` for what is checked.

    Args:
        run: folder of the run.
        to: a format, as ``"safetensors"``, ``"onnx"``, ``"nir"`` or ``"torch-export"``.
        out: folder for the file and the card; ``export`` in the run's by default.
        streaming: a graph of one time step.
        weights: ``"last"`` or ``"best"``.
        images: how many of the run's test images are compared.
        name: of the network on its card; by default that of the run's folder.
        changes: entries to lay over the run's recipe, as where the data lies now.
        half: weights in half precision (of safetensors alone); accuracy and energy on the card are then the file's.
        int8: weights in int8 (of onnx alone); accuracy on the card is then the file's, and energy not measured.
        licence: of the weights, for the card, as the Hugging Face hub writes it (``"apache-2.0"``).
        data_name: of the data set, for the card; by default what the recipe calls it.
        data_licence: of the data set, for the card.

    Returns:
        The file, and how near it is to the network.

    Raises:
        FileNotFoundError: no run there, or its data are gone.
        OSError: a package that the format needs is not installed.
        ValueError: damaged files, other data than the run's, or an export that differs.
    """
    if half and to != "safetensors":
        raise ValueError(f"--half: only safetensors files have weights in half precision, not {to}; leave it out")
    if int8 and to != "onnx":
        raise ValueError(f"--int8: only onnx files have weights in int8, not {to}; leave it out")
    coarse = {name: True for name, on in {"half": half, "int8": int8}.items() if on}
    exporter = components.exporter.make(to, **coarse)
    file_name(exporter, streaming)
    if images < 1:
        raise ValueError(f"--images: at least 1 is needed to compare, got {images}")
    folder = RunFolder(run)
    task, data, recipe = open_run(run, weights, changes)
    # Runs of earlier versions do not say all that is known of their data now.
    network, then = task.model.strip(), dict(data.description) | task.description
    batch, labels = data.sample(images)
    place = Path(out) if out else folder / "export"
    check_ours(place)
    if RunFolder(place).is_run:
        raise ValueError(f"{place} holds a run, whose own network this would replace: name another folder with --out")
    if then.get("kind") == "static" and batch.dtype != torch.uint8:
        raise ValueError(
            f"a network that is exported takes images as bytes (uint8), and this data gives {batch.dtype}: train it on "
            "bytes, with mean and std in the data's description"
        )
    if lacking := [each.name for each in fields(Images) if each.default is MISSING and each.name not in then]:
        raise ValueError(
            "what is exported takes images, or frames of events, and tells classes, and the description of this run's "
            f"data has no {', '.join(lacking)}: give what fits in as_data(..., description=...); any run's network "
            f"is in {folder.network(weights)}, and shortcut_snn.recipes.load_run(folder) returns it"
        )
    if list(batch.shape[-3:]) != (takes := [then["channels"], *then["image_size"]]):
        raise ValueError(
            f"the network of this run takes images of {_size(takes)}, and these are {_size(batch.shape[-3:])}: leave "
            "data.image_size and data.size as they are in the run"
        )
    about = Description(recipe.network, recipe.neuron, then)
    files = {
        ", ".join([to, *(COARSE[each] for each in coarse), *(["one time step"] if streaming else [])]): file_name(
            exporter, streaming
        )
    }
    # Before anything is written: what the run says of itself may be damaged.
    card = _card(folder, recipe, data, about, weights, name, place, files)
    known = labels if task.metric == "accuracy" else None
    path, agreement = export_network(network, about, batch, exporter, place, streaming, known)
    if coarse:
        # What the run measured was the network before its weights were rounded.
        rounded: Any = load_file(path) if half else Inference(OnnxRuntime(path, about, streaming), about)
        accuracy = {"test": _accuracy(rounded, data)} if task.metric == "accuracy" else {}
        card = replace(card, accuracy=accuracy, energy=None)
    if half:
        sample = rounded.runtime.prepare(data.sample(ENERGY_SAMPLES)[0])
        report = measure_energy(rounded.runtime.network, [sample], about.time_steps)
        energy = {what: getattr(report, key.removesuffix("_pj")) for what, key in ENERGY.items()}
        card = replace(card, energy=energy)
    described = {"name": data_name, "licence": data_licence}
    card = replace(
        card,
        licence=card.licence if licence is None else licence,
        data=card.data | {key: value for key, value in described.items() if value is not None},
    )
    write_card(card, place)
    return path, agreement


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _accuracy(network: Inference, data: Data) -> float:
    """What a network does on all test data, a fraction of 1."""
    right = count = 0
    for images, labels in data.loaders(0).test:
        right += int((network.predict(images) == labels).sum())
        count += len(labels)
    return right / count


def _card(
    run: RunFolder,
    recipe: Recipe,
    data: Data,
    about: Description,
    weights: str,
    name: str | None,
    folder: Path,
    files: dict[str, str],
) -> Card:
    # What a run measured is of its own network, not of one that was changed since.
    result, then = run.read_result() if run.is_finished and is_network_of(run, recipe) else {}, about.data
    entries = recipe.to_dict()
    # Where the files lay is nobody's business.
    places = [key for key, value in entries["data"].items() if isinstance(value, str) and os.path.isabs(value)]
    entries["data"] |= {key: None for key in ("root", "cache", *places) if key in entries["data"]}
    # They are no part of the outcome, and may hold passwords.
    entries["loggers"] = []
    accuracy = {
        part: found["accuracy"]
        for part in ("test", "validation")
        if (found := result.get(f"{part}_{weights}")) and "accuracy" in found
    }
    # Measured on the network of the last epoch.
    energy = {what: result[key] for what, key in ENERGY.items() if result.get(key) is not None}
    before = read_card(folder) if (folder / CARD).is_file() else None
    epoch = _epoch(run, weights, recipe.training.epochs)
    if before is None or name not in (None, before.name) or (before.recipe, before.weights) != (entries, epoch):
        before = Card(name or run.path.resolve().name, {}, {}, {})
    # What nobody else can know was said of the same network already.
    said: dict[str, Any] = {key: before.data[key] for key in ("name", "licence") if key in before.data}
    parts = ("train", "validation", "test") if isinstance(data, ImageData) else ()
    kept: dict[str, Any] = {key: then[key] for key in ("kind", "classes", "channels", "image_size") if key in then}
    return Card(
        name=before.name,
        data={
            "name": component_of(recipe.data).name,
            **kept,
            "samples": {part: len(getattr(data, part)) for part in parts},
            **said,
        },
        licence=before.licence,
        recipe=write(entries),
        accuracy=accuracy,
        energy=energy if energy and weights == "last" else None,
        # Files of another network stay where they are, but it is not they that this card speaks of.
        files={
            what: file
            for what, file in before.files.items()
            if before.accuracy == accuracy and file not in files.values()
        }
        | files,
        version=__version__,
        inputs=in_words(about),
        weights=epoch,
    )


def _epoch(run: RunFolder, weights: str, planned: int) -> str:
    """Say after which epoch of a run its weights are; a run that was stopped has a best one so far."""
    table = run.table("metrics")
    done = len(table.read_text(encoding="utf-8").splitlines()) - 1 if table.is_file() else planned
    which = "the last" if weights == "last" else "the best in validation"
    return f"after {which} of {done} epochs" + (f", of {planned} that were planned" if done != planned else "")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--to", required=True, metavar="FORMAT", help=f"one of {', '.join(components.exporter)}")
    parser.add_argument("--out", default=None, help="folder for the file and its card; default: RUN/export")
    parser.add_argument(
        "--streaming", action="store_true", help="one time step; membrane potentials are inputs and outputs"
    )
    parser.add_argument("--images", type=int, default=256, help="how many test images are compared")
    parser.add_argument("--name", default=None, help="of the network on its card; default: the run's")
    parser.add_argument(
        "--half", action="store_true", help="weights in half precision: half the file; safetensors only"
    )
    parser.add_argument(
        "--int8", action="store_true", help="weights in int8: a quarter of the file, and faster; onnx only"
    )
    parser.add_argument("--licence", default=None, help="of the weights, for the card, as in apache-2.0")
    parser.add_argument("--data-name", default=None, help="of the data set, for the card; default: the recipe's word")
    parser.add_argument("--data-licence", default=None, help="of the data set, for the card")


def run(options: argparse.Namespace) -> int:
    """Export and say how near the file is."""
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
    print(f"{path}: {components.exporter.make(options.to).says}\n{agreement}\ncard: {path.parent / CARD} and README.md")
    for what in [said for name, said in COARSE.items() if getattr(options, name)]:
        for part, value in read_card(path.parent).accuracy.items():
            print(f"{part} accuracy in {what}: {100 * value:.2f} %")
    return 0
