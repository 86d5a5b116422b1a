"""The card of a trained network: ``card.json`` for programs, ``README.md`` for the Hugging Face hub."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .._utils.files import write_text
from .._utils.markdown import escaped, shortened
from ..components.entries import read
from ..energy.report import with_unit

CARD, README, WEIGHTS = "card.json", "README.md", "network.safetensors"
ENERGY = {
    "energy_pj": "AC and MAC operations",
    "relu_energy_pj": "the same network with ReLUs",
    "total_energy_pj": "with memory",
    "quantised_energy_pj": "the same network with quantised ReLUs, with memory",
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
        exits: fields of the :class:`~shortcut_snn.deploy.Exits` of anytime inference; None without.
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
    exits: dict[str, Any] | None = None


def write_card(card: Card, folder: Path) -> None:
    """Write ``card.json`` and ``README.md``."""
    write_text(folder / CARD, json.dumps(asdict(card), indent=2) + "\n")
    write_text(folder / README, readme(card))


def read_card(folder: Path) -> Card:
    """Return the card of a folder."""
    path = folder / CARD
    if not path.is_file():
        raise FileNotFoundError(f"no card {path}: write network and card with shortcut-snn export")
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(entries, Mapping):
            raise ValueError("expected an object")
        names = {field.name for field in fields(Card)}
        card: Card = read(Card, {key: value for key, value in entries.items() if key in names}, "")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a card: {error}") from None
    return card


def readme(card: Card, name: str = "path/of/this/folder") -> str:
    """Return the README of a card, with metadata for the Hugging Face hub; ``name`` is what ``load`` takes."""
    # PyYAML comes with the extra ``train``, which loading a network does not need.
    from .._utils.yaml_text import as_yaml

    network = {"kind": "network", "time_steps": "?"} | card.recipe.get("network", {})
    data = {"name": "images", "classes": (), "samples": {}} | card.data
    energy = {ENERGY.get(key, key): value for key, value in (card.energy or {}).items()}
    facts = {
        "Weights": card.weights,
        "Inputs": card.inputs,
        "Classes": escaped(", ".join(map(str, data["classes"]))),
        "Samples": _join(f"{count:,} ({part})" for part, count in data["samples"].items()),
        "Licence of the data": escaped(data.get("licence") or "not stated"),
        "Accuracy": _join(f"{100 * value:.2f} % ({part})" for part, value in card.accuracy.items()),
        **_exits(card.exits),
        "Energy of an input in 45 nm": _join(f"{with_unit(value)} ({what})" for what, value in energy.items()),
    }
    is_events = data.get("kind") == "events"
    inputs = "float32 counts [N, T, C, H, W]" if is_events else "uint8 [N, C, H, W], as images are stored"
    anytime = "prediction = network.predict(images, anytime=network.exits)\n" if card.exits else ""
    use = f"""```python
from shortcut_snn import load

network = load("{name}")
labels = network.predict(images)  # {inputs}
{anytime}# In a terminal: shortcut-snn predict {name} FILE ...
```"""
    if WEIGHTS not in card.files.values():
        use = "Open a file with the runtime of its format."
    trained = f"A spiking {network['kind']} (T = {network['time_steps']}) for {data['name']}, trained with shortcut-snn"
    return f"""---
{as_yaml(_hub_metadata(card))}---

# {escaped(card.name)}

{escaped(trained)} {escaped(card.version)}.

{_list(facts)}

## Use

{use}

## Files

{_list({_as_code(file): escaped(what) for what, file in card.files.items()})}

## Recipe

```json
{json.dumps(card.recipe, indent=2)}
```
"""


def _exits(exits: dict[str, Any] | None) -> dict[str, str]:
    if exits is None:
        return {}
    low, high = (f"{100 * value:+.2f}" for value in exits["interval"])
    return {
        "Anytime inference": f"{exits['mean_steps']:.2f} time steps on average, accuracy {100 * exits['change']:+.2f} "
        f"points (95 % interval {low} to {high}) on {exits['samples']:,} validation samples"
    }


def _hub_metadata(card: Card) -> dict[str, Any]:
    """Return the entries of https://huggingface.co/docs/hub/model-cards that a card has."""
    task, dataset = "image-classification", str(card.data.get("name", "images"))
    results = [
        {
            "task": {"type": task},
            "dataset": {"name": dataset, "type": dataset, "split": part},
            "metrics": [{"type": "accuracy", "value": value}],
        }
        for part, value in card.accuracy.items()
    ]
    return {
        "library_name": "shortcut-snn",
        **({"license": card.licence} if card.licence else {}),
        "pipeline_tag": task,
        "tags": ["spiking-neural-network", "neuromorphic"],
        **({"model-index": [{"name": card.name, "results": results}]} if results else {}),
    }


def _as_code(file: str) -> str:
    return f"`{file}`" if re.fullmatch(r"[\w.-]+", file) else escaped(file)


def _list(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {shortened(fact)}" for name, fact in facts.items())


def _join(parts: Iterable[str]) -> str:
    return ", ".join(parts) or "not measured"
