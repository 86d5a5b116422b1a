"""Export of a trained network with its card, which lists all files of a folder that hold the same weights."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import components
from ..components import component_of
from ..energy import measure_energy
from .card import CARD, ENERGY, README, Card, read_card, write_card
from .check import Agreement
from .export import export_checked
from .exporter import Exporter, Logits
from .inference import Inference
from .registry import load
from .safetensors_files import Safetensors
from .spec import NetworkSpec

OPTIONS = {"streaming": "one time step", "half": "half precision", "int8": "int8"}
"""Options of formats, and how the card calls them."""


def export_with_card(
    network: nn.Module,
    spec: NetworkSpec,
    images: Tensor,
    to: str | Exporter,
    folder: Path,
    card: Card,
    test: Iterable[tuple[Tensor, Tensor]] = (),
) -> tuple[Path, Agreement, Card]:
    """Write a trained network to a file, check the file, and write ``card.json`` and ``README.md`` next to it.

    An earlier card in the folder keeps its files if it has the same recipe, weights and accuracy.

    Args:
        network: see :func:`export_network`, also for ``spec``, ``images``, ``to`` and ``folder``.
        card: facts about the network. If the file's weights are rounded, accuracy and energy are measured again.
        test: batches of test images and labels, for the accuracy of rounded weights.

    Returns:
        The file, its agreement with the network, and the card.

    Raises:
        FileExistsError: the folder holds another README.
        OSError: a package that the format needs is not installed.
        ValueError: the format cannot represent the network, the file computes something else, or the folder's card
            is damaged.

    Example:
        >>> import tempfile, torch
        >>> from shortcut_snn.deploy import Card, NetworkSpec, export_with_card
        >>> spec = NetworkSpec.from_dict({
        ...     "network": {"kind": "resnet8", "width": 4, "time_steps": 2}, "neuron": "lif",
        ...     "data": {"classes": ["cat", "dog"], "channels": 3, "image_size": [8, 8], "kind": "static",
        ...              "mean": [0.5] * 3, "std": [0.25] * 3},
        ... })
        >>> images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
        >>> card = Card("pets", data={"name": "pets"}, recipe={}, accuracy={"test": 0.5})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _, _, card = export_with_card(spec.build(), spec, images, "safetensors", Path(folder), card)
        >>> card.files
        {'safetensors': 'network.safetensors'}
    """
    exporter: Exporter = components.exporter.make(to) if isinstance(to, str) else to
    if (folder / README).is_file() and not (folder / CARD).is_file():
        raise FileExistsError(f"{folder / README} is not the README of a network, and would be replaced")
    # Before the export: a damaged card leaves no new file.
    _earlier_card(folder)
    exported = export_checked(network, spec, images, exporter, folder)
    if exported.is_rounded:
        # Energy is counted where the file can be loaded as a network.
        energy = _energy(load(exported.path), images) if isinstance(exporter, Safetensors) else None
        card = replace(card, accuracy=_accuracy(exported.logits, test), energy=energy)
    options = [text for option, text in OPTIONS.items() if getattr(exporter, option, False)]
    # Read again: another export to this folder may have ended in the meantime.
    earlier = _earlier_card(folder) or card
    same = (earlier.recipe, earlier.weights, earlier.accuracy) == (card.recipe, card.weights, card.accuracy)
    files = {text: file for text, file in earlier.files.items() if same and file != exported.path.name}
    label = ", ".join([component_of(exporter).name, *options])
    card = replace(card, files=files | {label: exported.path.name})
    write_card(card, folder)
    return exported.path, exported.agreement, card


def _earlier_card(folder: Path) -> Card | None:
    return read_card(folder) if (folder / CARD).is_file() else None


def _accuracy(logits: Logits, test: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    right = [logits(images).argmax(-1) == labels for images, labels in test]
    return {"test": float(torch.cat(right).double().mean())} if right else {}


def _energy(network: Inference, images: Tensor) -> dict[str, float]:
    report = measure_energy(network.network, [network.prepare(images)], network.spec.time_steps)
    return {key: getattr(report, key.removesuffix("_pj")) for key in ENERGY}
