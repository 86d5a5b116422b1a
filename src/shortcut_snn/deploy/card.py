"""The card of a trained network: what a person, and a registry, must know of it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .. import components
from ..files import write_text

CARD, README = "card.json", "README.md"
_OURS = "library_name: shortcut-snn"


@dataclass(frozen=True)
class Card:
    """What is known of a trained network.

    Args:
        name: of the network, as in a registry.
        data: name of the data set, its licence, its classes, and what was held out.
        recipe: all entries of the run.
        accuracy: by what it was measured on, as in ``{"test": 0.97}``, fractions of 1.
        energy: as far as it was measured, by name; None if it was not.
        files: what lies beside the card, by format.
        version: of this library.
        inputs: how files become what the network takes, in a sentence.
        weights: after which epoch, of how many.
        licence: of the weights, as the Hugging Face hub writes it (``"apache-2.0"``); None where nobody said.
    """

    name: str
    data: dict[str, Any]
    recipe: dict[str, Any]
    accuracy: dict[str, float]
    energy: dict[str, Any] | None = None
    files: dict[str, str] = field(default_factory=dict)
    version: str = ""
    inputs: str = ""
    weights: str = ""
    licence: str | None = None


def write_card(card: Card, folder: Path) -> None:
    """Write ``card.json``, and ``README.md`` as the Hugging Face hub shows it."""
    write_text(folder / CARD, json.dumps(asdict(card), indent=2) + "\n")
    write_text(folder / README, markdown(card))


def check_ours(folder: Path) -> None:
    """Refuse a folder whose README is no card's.

    Raises:
        FileExistsError: it would be replaced.
    """
    path = folder / README
    if path.is_file() and _OURS not in path.read_text(encoding="utf-8", errors="replace").splitlines()[:9]:
        raise FileExistsError(f"{path} is not a network's card, which would replace it; name another folder with --out")


def read_card(folder: Path) -> Card:
    """Return the card of a folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged; the message says where.
    """
    path = folder / CARD
    if not path.is_file():
        raise FileNotFoundError(f"no card {path}")
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a card: {error}") from None
    if not isinstance(said, Mapping):
        raise ValueError(f"{path} is not a card: expected an object")
    known = {each.name: said[each.name] for each in fields(Card) if each.name in said}
    try:
        card: Card = components.read(Card, known, "")
    except ValueError as error:
        raise ValueError(f"{path} is not a card: {error}") from None
    return card


def markdown(card: Card, name: str = "path/of/this/folder") -> str:
    """Return the card as a person reads it; ``name`` is what the network is loaded by."""
    network, neuron = card.recipe.get("network", {}), card.recipe.get("neuron", {})
    size = " x ".join(str(side) for side in card.data.get("image_size", ()))
    lines = [
        "---",
        *([f"license: {json.dumps(card.licence)}"] if card.licence else []),
        _OURS,
        "pipeline_tag: image-classification",
        "tags: [spiking-neural-network, neuromorphic]",
        "---",
        "",
        f"# {card.name}",
        "",
        f"A spiking {network.get('kind', 'network')} ({neuron.get('kind', '?')} neurons, "
        f"{network.get('time_steps', '?')} time steps) for {len(card.data.get('classes', ()))} classes of "
        f"{card.data.get('name', 'images')} ({card.data.get('channels', '?')} channels, {size} pixels), trained with "
        f"shortcut-snn {card.version}.",
        "",
        *([f"Weights: {card.weights}.", ""] if card.weights else []),
        "## Data",
        "",
        f"- licence: {card.data.get('licence') or 'not stated'}",
        *(f"- {part}: {count:,}" for part, count in (card.data.get("samples") or {}).items()),
        f"- classes: {', '.join(map(str, card.data.get('classes', ())))}",
        "",
        "## Accuracy",
        "",
        "| measured on | accuracy |",
        "|---|---|",
        *(f"| {what} | {100 * value:.2f} % |" for what, value in card.accuracy.items()),
        "",
        "## Energy",
        "",
        *([f"- {what}: {_short(value)}" for what, value in card.energy.items()] if card.energy else ["Not measured."]),
        "",
        "## Use",
        "",
        *_use(card, name),
        *(["", f"Inputs: {card.inputs}"] if card.inputs else []),
        "",
        "## Files",
        "",
        *(f"- `{file}`: {what}" for what, file in card.files.items()),
        "",
        "## Recipe",
        "",
        "```json",
        json.dumps(card.recipe, indent=2),
        "```",
        "",
    ]
    return "\n".join(lines)


def _use(card: Card, name: str) -> list[str]:
    if not any(file.endswith(".safetensors") for file in card.files.values()):
        return ["The files below are for the runtimes of their formats, not for this library's `load`."]
    return [
        "```python",
        "from shortcut_snn import load",
        "",
        f"network = load({json.dumps(name)})",
        "labels = network.predict(images)  # uint8, as they come from the data set",
        "```",
        "",
        f"`shortcut-snn predict {name} FILE ...` does the same for files.",
    ]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
