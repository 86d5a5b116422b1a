"""The card of a trained network: ``card.json`` for programs, ``README.md`` for the Hugging Face hub."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .. import components
from ..files import write_text

CARD, README = "card.json", "README.md"
ENERGY = {
    "energy_pj": "operations of an input in 45 nm (AC and MAC)",
    "relu_energy_pj": "the same network with ReLUs",
    "total_energy_pj": "operations and memory of an input",
    "quantised_energy_pj": "the same network with ReLUs and quantised activations, with memory",
}
"""Measured energies of an input in picojoules, and how the README calls them."""


@dataclass(frozen=True)
class Card:
    """Facts about a trained network.

    Args:
        name: name of the network.
        data: name, licence, classes and number of samples of the data set.
        recipe: all entries of the run's recipe.
        accuracy: fraction of right predictions by part of the data, such as ``{"test": 0.97}``.
        energy: measured energies of an input in picojoules by the keys of :data:`ENERGY`; None if not measured.
        files: files next to the card, by a description of each.
        version: version of this package that trained the network.
        inputs: one sentence on how a file becomes an input.
        weights: the epoch that the weights are from.
        licence: licence of the weights, as the Hugging Face hub writes it (``"apache-2.0"``); None if not stated.
    """

    name: str
    data: dict[str, Any]
    recipe: dict[str, Any]
    accuracy: dict[str, float]
    energy: dict[str, float] | None = None
    files: dict[str, str] = field(default_factory=dict)
    version: str = ""
    inputs: str = ""
    weights: str = ""
    licence: str | None = None


def write_card(card: Card, folder: Path) -> None:
    """Write ``card.json`` and ``README.md``."""
    write_text(folder / CARD, json.dumps(asdict(card), indent=2) + "\n")
    write_text(folder / README, readme(card))


def check_no_other_readme(folder: Path) -> None:
    """Check that writing a card would not replace a README of another kind.

    Raises:
        FileExistsError: the folder holds a README without a card.
    """
    if (folder / README).is_file() and not (folder / CARD).is_file():
        raise FileExistsError(f"{folder / README} is not the README of a network, and would be replaced")


def read_card(folder: Path) -> Card:
    """Return the card of a folder.

    Raises:
        FileNotFoundError: the folder has no card.
        ValueError: the card is damaged; the message says where.
    """
    path = folder / CARD
    if not path.is_file():
        raise FileNotFoundError(f"no card {path}: write network and card with shortcut-snn export")
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(entries, Mapping):
            raise ValueError("expected an object")
        names = {field.name for field in fields(Card)}
        card: Card = components.read(Card, {key: value for key, value in entries.items() if key in names}, "")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a card: {error}") from None
    return card


def readme(card: Card, name: str = "path/of/this/folder") -> str:
    """Return the README of a card; without huggingface_hub it has no metadata for the hub.

    Args:
        card: the card.
        name: what ``load`` takes to load the network.
    """
    try:
        from huggingface_hub import EvalResult, ModelCard, ModelCardData
    except ModuleNotFoundError:
        return _text(card, name)
    task, dataset = "image-classification", str(card.data.get("name", "images"))
    metadata = ModelCardData(
        model_name=card.name,
        license=card.licence,
        library_name="shortcut-snn",
        pipeline_tag=task,
        tags=["spiking-neural-network", "neuromorphic"],
        eval_results=[
            EvalResult(task, dataset, dataset, "accuracy", value, dataset_split=part)
            for part, value in card.accuracy.items()
        ],
    )
    return str(ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{_text(card, name)}"))


_TEMPLATE = """\
# {name}

A spiking {network} ({neuron} neurons, {time_steps} time steps) for {num_classes} classes of {data} \
({channels} channels, {size} pixels), trained with shortcut-snn {version}.

Weights: {weights}.

## Data

Licence: {licence}

{samples}

Classes: {classes}

## Accuracy

{accuracy}

## Energy

{energy}

## Use

{use}

Inputs: {inputs}

## Files

{files}

## Recipe

```json
{recipe}
```
"""
_USE = """\
```python
from shortcut_snn import load

network = load({name})
labels = network.predict(images)  # uint8, as they come from the data set
```

`shortcut-snn predict {name} FILE ...` does the same for files."""


def _text(card: Card, name: str) -> str:
    network, neuron, data = card.recipe.get("network", {}), card.recipe.get("neuron", {}), card.data
    classes = list(map(str, data.get("classes", ())))
    has_weights = any(file.endswith(".safetensors") for file in card.files.values())
    return _TEMPLATE.format(
        name=card.name,
        network=network.get("kind", "network"),
        neuron=neuron.get("kind", "?"),
        time_steps=network.get("time_steps", "?"),
        num_classes=len(classes),
        data=data.get("name", "images"),
        channels=data.get("channels", "?"),
        size=" x ".join(map(str, data.get("image_size", ("?",)))),
        version=card.version,
        weights=card.weights or "not stated",
        licence=data.get("licence") or "not stated",
        samples=_items(f"{part}: {count:,}" for part, count in (data.get("samples") or {}).items()),
        classes=", ".join(classes),
        accuracy=_items(f"{part}: {100 * value:.2f} %" for part, value in card.accuracy.items()),
        energy=_items(f"{ENERGY.get(key, key)}: {value / 1000:,.1f} nJ" for key, value in (card.energy or {}).items()),
        use=_USE.format(name=json.dumps(name)) if has_weights else "Open a file with the runtime of its format.",
        inputs=card.inputs or "not stated",
        files=_items(f"`{file}`: {what}" for what, file in card.files.items()),
        recipe=json.dumps(card.recipe, indent=2),
    )


def _items(items: Any) -> str:
    """Return a Markdown list, or one sentence in place of an empty one."""
    return "\n".join(f"- {item}" for item in items) or "Not stated."
