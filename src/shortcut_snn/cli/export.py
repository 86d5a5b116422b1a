"""``shortcut-snn export``: write a run's network to a file for use elsewhere, checked on the run's test data."""

import argparse
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import __version__, components
from ..components import component_of
from ..components.entries import read
from ..components.help import first_sentence
from ..components.registry import suggestion
from ..data import Data, ImageData
from ..deploy import Card, Exporter, NetworkSpec
from ..deploy.card import CARD, ENERGY, README
from ..deploy.export import export_with_card
from ..deploy.exporter import Logits
from ..deploy.safetensors_files import copy_branches, read_inference, read_network
from ..deploy.single_step import keep_branches
from ..deploy.spec import InputSpec, describe_inputs
from ..recipes import Recipe, open_run
from ..recipes.runs import keeps_result
from ..training import RunFolder, Task
from ._terminal import UsageError, usage_errors


def run(options: argparse.Namespace) -> int:
    """Export the network of a run, write its card, and print the agreement of the file with the network."""
    if options.to not in components.exporter:
        known = ", ".join(sorted(components.exporter))
        hint = f"--to {options.to}{suggestion(options.to, components.exporter)} is not a format: " if options.to else ""
        raise UsageError(f"{hint}add --to and one of: {known}")
    chosen = [option for option in ("streaming", "half", "int8") if getattr(options, option)]
    entries = {"kind": options.to} | dict.fromkeys(chosen, True)
    if options.bits is not None:
        entries["bits"] = options.bits
    # Errors start with the name of an option.
    with usage_errors("--"):
        exporter: Exporter = read(components.exporter, entries, "")
    task, data, recipe = open_run(options.run, options.weights, options.changes)
    folder = Path(options.out) if options.out else RunFolder(options.run) / "export"
    if RunFolder(folder).is_run:
        raise ValueError(f"{folder} holds a run, and the export would replace its network: choose another folder")
    batch, _ = data.sample(options.images)
    spec = NetworkSpec(recipe.network, recipe.neuron, dict(data.description) | task.description)
    _check_batch(spec.inputs, batch)
    task.model.strip()
    card = _card(options, recipe, data, spec)
    weights = RunFolder(options.run).network(options.weights)
    _, about = read_network(weights)
    kept = read_inference(weights) if {"branches", "exits"} & about.keys() else None
    # Of another number of time steps or other data the thresholds do not hold.
    exits = kept.exits if kept is not None and keeps_result(options.changes) else None
    if exits is not None and (options.to == "safetensors" or options.streaming):
        card = replace(card, exits=exits.to_dict())
    if kept is not None and options.streaming:
        keep_branches(task.model.network, kept.branches)
    stated = card.accuracy
    test = partial(_test_accuracy, task, data)
    path, agreement, card = export_with_card(task.model, spec, batch, exporter, folder, card, test)
    if kept is not None and options.to == "safetensors":
        copy_branches(weights, path, with_exits=exits is not None)
    print(f"{path}: {first_sentence(component_of(exporter))}\n{agreement}\ncard: {folder / CARD} and {README}")
    bits = getattr(exporter, "bits", None)
    precision = "half precision" if options.half else "int8" if options.int8 else f"{bits}-bit integers" if bits else ""
    for part, value in card.accuracy.items() if precision else ():
        before = f", before: {100 * stated[part]:.2f} %" if part in stated else ""
        print(f"{part} accuracy in {precision}: {100 * value:.2f} %{before}")
    for line in exporter.report(path):
        print(line)
    return 0


def _check_batch(inputs: InputSpec, batch: Tensor) -> None:
    """Raise an error for data that an exported network does not take."""
    if inputs.kind == "static" and batch.dtype != torch.uint8:
        raise ValueError(
            f"an exported network takes images as uint8, and this data is {batch.dtype}: train on uint8 images, with "
            "mean and std in the data's description"
        )
    expected, shape = [inputs.channels, *inputs.image_size], list(batch.shape[-3:])
    if shape != expected:
        raise ValueError(
            f"the network takes images [C, H, W] of {expected}, and the data has {shape}: leave data.image_size and "
            "data.size as they are in the run"
        )


def _test_accuracy(task: Task, data: Data, logits: Logits) -> dict[str, float]:
    """Return the accuracy of a file on the test data, as the task measures it."""
    if task.metric != "accuracy":
        return {}
    outputs = [(logits(images), labels) for images, labels in data.loaders(0).test]
    return {"test": float(task.metrics(*map(torch.cat, zip(*outputs, strict=True)))["accuracy"])}


def _card(options: argparse.Namespace, recipe: Recipe, data: Data, spec: NetworkSpec) -> Card:
    """Return the card of a run's network, without files."""
    run, weights = RunFolder(options.run), options.weights
    result = run.read_result() if run.is_finished and keeps_result(options.changes) else {}
    accuracy = {
        part: scores["accuracy"]
        for part in ("test", "validation")
        if "accuracy" in (scores := result.get(f"{part}_{weights}") or {})
    }
    energy = {key: result[key] for key in ENERGY if result.get(key) is not None}
    parts = ("train", "validation", "test") if isinstance(data, ImageData) else ()
    shown = ("kind", "classes", "channels", "image_size")
    licence = {} if options.data_licence is None else {"licence": options.data_licence}
    epoch = "the last" if weights == "last" else "the best in validation"
    return Card(
        name=Path(options.out or options.run).resolve().name,
        data={
            "name": options.data_name or component_of(recipe.data).name,
            **{key: spec.data[key] for key in shown if key in spec.data},
            "samples": {part: len(getattr(data, part)) for part in parts},
            **licence,
        },
        recipe=_public_recipe(recipe),
        accuracy=accuracy,
        # Energy is measured with the weights of the last epoch.
        energy=energy if energy and weights == "last" else None,
        version=__version__,
        inputs=describe_inputs(spec),
        weights=f"after {epoch} of {recipe.training.epochs} epochs",
        licence=options.licence,
    )


def _public_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe's entries without paths of this machine, and without loggers, which may hold passwords."""
    entries = recipe.to_dict()
    for section in ("data", "training"):
        paths = [key for key, value in entries[section].items() if isinstance(value, str) and os.path.isabs(value)]
        entries[section] |= {key: None for key in ("root", "cache", *paths) if key in entries[section]}
    entries["loggers"] = []
    return entries
