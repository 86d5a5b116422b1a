"""``shortcut-snn predict``: the class of an image or a recording, by a trained network."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..deploy import Inference, load
from ..files import read_json
from ._parser import add_imports, at_least_one

HELP = "the class of an image, a folder of these, or a recording of events"
DESCRIPTION = (
    "Say what a trained network takes files for. They are prepared as those were that the network was evaluated on. "
    "Of a folder, all images (or recordings) below it are taken. A file that cannot be read is named on stderr and the "
    "rest goes on; the exit status is then 1."
)


@dataclass(frozen=True)
class Prediction:
    """What a network takes a file for.

    Args:
        file: its path.
        label: index of the most likely class.
        top: names of the most likely classes and their probabilities, the first first.
        spikes: of all neurons, over all time steps.
        energy_pj: of ACs and MACs in 45 nm; see :func:`~shortcut_snn.energy.measure_energy`.
        total_energy_pj: the same with reading weights and inputs and updating membrane potentials.
    """

    file: str
    label: int
    top: list[tuple[str, float]]
    spikes: int
    energy_pj: float
    total_energy_pj: float

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can say it, the class and its probability beside all of ``top``."""
        top = [{"class": name, "probability": value} for name, value in self.top]
        measured = {"spikes": self.spikes, "energy_pj": self.energy_pj, "total_energy_pj": self.total_energy_pj}
        return {"file": self.file, "label": self.label, **top[0], "top": top, **measured}


def predict(
    network: Inference, inputs: Iterable[str | Path], top: int = 1, unreadable: Callable[[str], None] | None = None
) -> Iterator[Prediction]:
    """Yield what a network takes each of some files for.

    Args:
        network: of images or of recordings; see :func:`shortcut_snn.load`.
        inputs: files, and folders of these.
        top: how many classes.
        unreadable: takes a sentence on a file that cannot be used, and the rest goes on; by default it is raised.

    Raises:
        ValueError: the network takes nothing that files hold; without ``unreadable`` also: a file that is damaged, or
            something else.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from PIL import Image
        >>> from sklearn.datasets import load_digits
        >>> from shortcut_snn import load
        >>> path = tempfile.mkdtemp() + "/seven.png"
        >>> Image.fromarray((load_digits().images[7] * 255 / 16).round().astype(np.uint8)).save(path)
        >>> [found.label for found in predict(load("digits-resnet18"), [path])]
        [7]
    """
    from ..data import DataFileError, InputFiles

    files = InputFiles(network.spec.data, network.spec.time_steps)
    for given in inputs:
        try:
            paths = files.found(Path(given))
        except DataFileError as error:
            _tell(error, unreadable)
            continue
        for path in paths:
            try:
                batch = files.read(path).unsqueeze(0)
            except DataFileError as error:
                _tell(error, unreadable)
                continue
            yield _predicted(network, path, batch, top)


def _tell(error: ValueError, unreadable: Callable[[str], None] | None) -> None:
    if unreadable is None:
        raise error
    unreadable(str(error))


def _predicted(network: Inference, path: Path, batch: Any, top: int) -> Prediction:
    from ..diagnosis.probe import probe
    from ..energy import measure_energy

    running: Any = network.runtime
    with probe(running.network, membrane=False) as tallies:
        logits = network.logits(batch).float()
    if logits.shape != (1, len(network.classes)):
        raise ValueError(
            f"the network gives {list(logits.shape)} numbers for a file, not one for each of its "
            f"{len(network.classes)} classes: predict is for classification"
        )
    probabilities = logits.softmax(-1)[0]
    report = measure_energy(running.network, [running.prepare(batch)], network.spec.time_steps)
    values, labels = probabilities.topk(min(top, len(probabilities)))
    best = [(network.classes[label], value) for label, value in zip(labels.tolist(), values.tolist(), strict=True)]
    spikes = round(sum(float(each.spikes) for each in tallies.values()))
    return Prediction(str(path), int(labels[0]), best, spikes, report.energy, report.total_energy)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "network", help="a name as in digits-resnet18, a run's or an export's folder, or owner/name on the hub"
    )
    parser.add_argument("inputs", nargs="+", metavar="FILE", help="a file, or a folder of these")
    parser.add_argument("--top", type=int, default=1, metavar="K", help="the K most likely classes")
    parser.add_argument("--json", action="store_true", help="print JSON: a list with an object for each file")
    parser.add_argument("--weights", default="last", choices=["last", "best"], help="of a run, after which epoch")
    add_imports(parser)


def run(options: argparse.Namespace) -> int:
    """Predict and print.

    Raises:
        ValueError: options, or a network, that make no sense.
        FileNotFoundError: there is no such network.
    """
    at_least_one(options, "top")
    if options.imports:
        from ..recipes.imports import import_components

        import_components(options.imports)
    network, failed = _load(options.network, options.weights), list[str]()

    def unreadable(message: str) -> None:
        failed.append(message)
        print(f"shortcut-snn: {message}", file=sys.stderr)

    found = list(predict(network, options.inputs, options.top, unreadable))
    if options.json:
        print(json.dumps([each.to_dict() for each in found], indent=2))
    elif found:
        print(_table(found))
    return 1 if failed else 0


def _load(name: str, weights: str) -> Inference:
    best = Path(name) / "best.safetensors"
    if weights == "best" and not best.is_file():
        raise FileNotFoundError(f"--weights best: {name} is no folder of a run with {best.name}; leave it out")
    try:
        return load(best if weights == "best" else name)
    except ValueError as error:
        # A run says what it imported; of what else the message is, the environment does not matter.
        if imports := read_json(Path(name) / "environment.json").get("imports"):
            from ..recipes.imports import hint

            raise ValueError(f"{error}{hint(imports)}") from None
        raise


def _table(found: list[Prediction]) -> str:
    from ..training import format_value, markdown_table

    rows = []
    for each in found:
        for place, (name, probability) in enumerate(each.top):
            energies = [format_value(energy / 1000) for energy in (each.energy_pj, each.total_energy_pj)]
            last = ["", "", ""] if place else [f"{each.spikes:,}", *energies]
            rows.append(["" if place else each.file, name, f"{100 * probability:.1f} %", *last])
    return markdown_table(["file", "class", "probability", "spikes", "energy, nJ", "with memory, nJ"], rows)
