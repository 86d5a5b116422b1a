"""Export of a trained network: fold, write, load back, compare on real data, and only then keep the file.

The card in a folder lists all files there that hold the same weights.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import components
from .._utils.files import expanded, remove_strays, replacing
from .._utils.module_state import preserving_state
from ..components import component_of
from ..energy import measure_energy
from ..method import Shortcut
from ..neurons import Neuron
from .card import CARD, ENERGY, README, Card, read_card, write_card
from .exporter import Exporter, Logits
from .folding import fold
from .integer_export import Integer
from .onnx_export import ONNX
from .registry import load
from .safetensors_files import Safetensors
from .spec import NetworkSpec, Prepare
from .torch_export import TorchExport

ROUNDING = 1e-4
"""An image is moved if one of its logits differs by more than this share of the largest logit."""
TOLERANCE = 3
"""An export may move this many times as many images as torch's second run: both are rounded, and its weights too."""
CHUNK = 64  # images that run at once


@dataclass(frozen=True)
class Agreement:
    """The number of images for which two networks predict the same class, and of those moved by more than rounding."""

    images: int
    agree: int
    moved: int
    difference: float
    largest: float

    def __str__(self) -> str:
        return (
            f"{self.agree} of {self.images} predictions agree; the logits of {self.moved} images differ by more than "
            f"rounding; the largest difference is {self.difference:.2g} (the largest logit is {self.largest:.3g})"
        )


def compare(expected: Tensor, logits: Tensor) -> Agreement:
    """Compare two tensors of logits ``[N, num_classes]``."""
    largest, differences = expected.abs().max().item(), (logits - expected).abs().amax(-1)
    return Agreement(
        images=len(expected),
        agree=int((logits.argmax(-1) == expected.argmax(-1)).sum()),
        # Not ">", which is false for NaN.
        moved=int((~(differences <= ROUNDING * largest)).sum()),
        difference=differences.max().item(),
        largest=largest,
    )


def check(network: nn.Module, spec: NetworkSpec, exported: Logits, images: Tensor) -> Agreement:
    """Compare an exported network with the network that it was made from.

    Rounding can flip a spike whose membrane potential lies at the threshold, and that spike flips others. How many
    images it moves depends on the network, so it is measured: torch runs the network a second time, its convolutions
    channels-last, which computes the same sums in another order. A wrong export moves nearly every image.
    """
    expected, logits = network_logits(network, spec, images), in_chunks(exported, images)
    if logits.shape != expected.shape:
        raise ValueError(f"the export returns logits {list(logits.shape)}, the network {list(expected.shape)}")
    agreement = compare(expected, logits)
    reordered = copy.deepcopy(network)
    nn.utils.convert_conv2d_weight_memory_format(reordered, torch.channels_last)
    rounding = compare(expected, network_logits(reordered, spec, images))
    chance = len(expected) ** 0.5 / 2
    disagree, disagree_by_rounding = (each.images - each.agree for each in (agreement, rounding))
    if not (
        agreement.moved <= TOLERANCE * rounding.moved + chance
        and disagree <= TOLERANCE * disagree_by_rounding + chance
        and agreement.difference < float("inf")
    ):
        raise ValueError(f"the export differs from the network: {agreement}; rounding changes {rounding.moved} images")
    return agreement


def network_logits(network: nn.Module, spec: NetworkSpec, images: Tensor) -> Tensor:
    """Return the logits ``[N, num_classes]`` of a network in evaluation mode."""
    prepare = Prepare(spec)
    with torch.no_grad(), preserving_state(network, training=False):
        return in_chunks(lambda chunk: network(prepare(chunk)), images)


def in_chunks(logits: Logits, images: Tensor) -> Tensor:
    """Return the logits of many images; the steps of a ``"sequence"`` readout are stacked to ``[T * N, classes]``."""
    return torch.cat([logits(chunk).float() for chunk in torch.split(images, CHUNK)], -2).flatten(0, -2)


OPTIONS = {"streaming": "one time step", "half": "half precision", "int8": "int8", "bits": "weights of {} bits"}
"""Options of formats, and how the card calls them."""


class OneCall(nn.Module):
    """Map a batch to the logits that the wrapper of a network returns in evaluation."""

    def __init__(self, model: Shortcut) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Any:
        """Return the logits, and leave the network in its initial state."""
        return self.model(x).main


def export_network(
    network: nn.Module, spec: NetworkSpec, images: Tensor, to: str | Exporter, folder: str | Path
) -> tuple[Path, Agreement]:
    """Write a trained network to a file and check on a batch that the file computes the network's logits.

    Args:
        network: the trained network, in float32 on the CPU. Wrap one without neurons of this package by
            :func:`shortcut_snn.attach`, which knows its time loop, its reset and its logits.
        spec: the network's specification.
        images: real inputs, uint8 ``[N, C, H, W]``, or frames of events ``[N, T, C, H, W]``.
        to: an export format with its options, such as ``ONNX(int8=True)``, or the name of a format.
        folder: folder of the file; created if it is missing.

    Returns:
        The file, and its agreement with the network. A file of half-precision or int8 weights is checked against the
        network with these weights; its agreement with the network itself is for the caller to judge.

    Raises:
        OSError: a package that the format needs is not installed.
        ValueError: the format cannot represent the network, or the file computes something else. The folder then
            stays as it was.

    Example:
        >>> import tempfile
        >>> from shortcut_snn.deploy import export_network, load
        >>> spec = load("digits-resnet18").spec
        >>> images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path, agreement = export_network(spec.build(), spec, images, "safetensors", folder)
        ...     path.name, agreement.agree, load(folder).classes[:2]
        ('network.safetensors', 4, ('0', '1'))
    """
    exporter: Exporter = components.exporter.make(to) if isinstance(to, str) else to
    return export_checked(network, spec, images, exporter, expanded(folder))[:2]


def export_checked(
    network: nn.Module, spec: NetworkSpec, images: Tensor, exporter: Exporter, folder: Path
) -> tuple[Path, Agreement, Logits | None]:
    """Write a file and check it as :func:`export_network` does; return its logits too if its weights are rounded."""
    if isinstance(network, Shortcut) and any(isinstance(module, Neuron) for module in network.network.modules()):
        network = network.network
    if isinstance(network, Shortcut):
        if exporter not in (ONNX(), TorchExport()):
            name = component_of(exporter).name
            raise ValueError(f"{name} with these options needs this library's neurons: export to onnx or torch-export")
        network = OneCall(network)
        folded: nn.Module = copy.deepcopy(network).eval().requires_grad_(False)
    else:
        folded = fold(network, spec.example())
    rounded = exporter.rounded(folded, spec, Prepare(spec)(images[:CHUNK]))
    remove_strays(folder)
    with replacing(folder / exporter.file) as path:
        logits = exporter.export(rounded, spec, path)
        # Rounded weights flip spikes, so the file has to compute what the network with such weights does.
        agreement = check(network if rounded is folded else rounded, spec, logits, images)
        if rounded is not folded:
            agreement = compare(network_logits(network, spec, images), in_chunks(logits, images))
    return folder / exporter.file, agreement, None if rounded is folded else logits


def export_with_card(
    network: nn.Module,
    spec: NetworkSpec,
    images: Tensor,
    exporter: Exporter,
    folder: Path,
    card: Card,
    test: Callable[[Logits], dict[str, float]],
) -> tuple[Path, Agreement, Card]:
    """Write a trained network to a file, check the file, and write ``card.json`` and ``README.md`` next to it.

    If the file's weights are rounded, accuracy (by ``test``) and energy are measured again. A card in the folder keeps
    its files if it has the same recipe, weights and accuracy. Another README, or a card that lists files of another
    recipe or weights, is an error.
    """
    if (folder / README).is_file() and not (folder / CARD).is_file():
        raise FileExistsError(f"{folder / README} is not the README of a network, and would be replaced")
    # Before the export: a damaged card leaves no new file.
    earlier = _earlier_card(folder)
    if earlier is not None and (earlier.recipe, earlier.weights) != (card.recipe, card.weights):
        others = {file for file in earlier.files.values() if (folder / file).is_file()} - {exporter.file}
        if others:
            held = ", ".join(sorted(others))
            raise FileExistsError(f"{folder} holds {held} of another network: choose another folder")
    path, agreement, rounded = export_checked(network, spec, images, exporter, folder)
    if rounded is not None:
        energy = None
        # It is counted where the file can be loaded as a network.
        if isinstance(exporter, Safetensors):
            loaded = load(path)
            report = measure_energy(loaded.network, [loaded.prepare(images)], spec.time_steps)
            energy = {key: getattr(report, key.removesuffix("_pj")) for key in ENERGY}
        card = replace(card, accuracy=test(rounded), energy=energy)
    options = [text.format(value) for option, text in OPTIONS.items() if (value := getattr(exporter, option, False))]
    # Read again: another export to this folder may have ended in the meantime.
    earlier = _earlier_card(folder) or card
    same = (earlier.recipe, earlier.weights, earlier.accuracy) == (card.recipe, card.weights, card.accuracy)
    # The C code comes with an integer file.
    written = {path.name, Integer.file} if isinstance(exporter, Integer) else {path.name}
    files = {text: file for text, file in earlier.files.items() if same and file not in written}
    label = ", ".join([component_of(exporter).name, *options])
    # Exits are stored in files that are kept.
    card = replace(card, files=files | {label: path.name}, exits=card.exits or (earlier.exits if files else None))
    write_card(card, folder)
    return path, agreement, card


def _earlier_card(folder: Path) -> Card | None:
    return read_card(folder) if (folder / CARD).is_file() else None
