"""``shortcut-snn predict``: classify images or event recordings with a trained network."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._utils.markdown import markdown_table, printable
from ..data import DataFileError, InputFiles
from ..deploy import Inference, load
from ..energy import measure_energy
from ..measurement import probe
from ..training import RunFolder, format_value
from ._terminal import at_least_one


def run(options: argparse.Namespace) -> int:
    """Predict and print the classes."""
    at_least_one(options, "top")
    if options.imports:
        # Recipes load all that trains; prediction does not need it otherwise.
        from ..recipes import import_components

        import_components(options.imports)
    network = _load(options.network)
    failed = []

    def report(message: str) -> None:
        failed.append(message)
        print(f"shortcut-snn: {printable(message)}", file=sys.stderr)

    predictions = list(predict(network, options.inputs, options.top, report))
    if options.json:
        print(json.dumps([prediction.to_dict() for prediction in predictions], indent=2))
    elif predictions:
        print(_table(predictions))
    return 1 if failed else 0


@dataclass(frozen=True)
class Prediction:
    """The classes that a network predicts for a file, and what the prediction cost.

    Args:
        top: names and probabilities of the most likely classes, the most likely first.
        energy_pj: energy of ACs and MACs in pJ, 45 nm; see :func:`~shortcut_snn.energy.measure_energy`.
        total_energy_pj: the same with memory traffic and membrane updates.
    """

    file: str
    label: int
    top: list[tuple[str, float]]
    spikes: int
    energy_pj: float
    total_energy_pj: float

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction for JSON, with the most likely class and its probability also at the top level."""
        top = [{"class": name, "probability": value} for name, value in self.top]
        cost = {"spikes": self.spikes, "energy_pj": self.energy_pj, "total_energy_pj": self.total_energy_pj}
        return {"file": self.file, "label": self.label, **top[0], "top": top, **cost}


def predict(
    network: Inference, inputs: Iterable[str | Path], top: int = 1, on_error: Callable[[str], None] | None = None
) -> Iterator[Prediction]:
    """Yield the predictions of a network for files.

    Args:
        network: of images or event recordings; see :func:`shortcut_snn.load`.
        on_error: receives a message about each file that cannot be read; by default that is an error.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from PIL import Image
        >>> from sklearn.datasets import load_digits
        >>> from shortcut_snn import load
        >>> path = tempfile.mkdtemp() + "/seven.png"
        >>> Image.fromarray((load_digits().images[7] * 255 / 16).round().astype(np.uint8)).save(path)
        >>> [prediction.label for prediction in predict(load("digits-resnet18"), [path])]
        [7]
    """
    files = InputFiles(network.spec.data, network.spec.time_steps)
    for path in inputs:
        paths: list[Path] = []
        with _reporting(on_error):
            paths += files.paths(Path(path))
        for file in paths:
            with _reporting(on_error):
                yield _predict_batch(network, file, files.read(file).unsqueeze(0), top)


@contextmanager
def _reporting(on_error: Callable[[str], None] | None) -> Iterator[None]:
    """Report a file that cannot be read; without a function that is an error."""
    try:
        yield
    except DataFileError as error:
        if on_error is None:
            raise
        on_error(str(error))


def _predict_batch(network: Inference, file: Path, batch: Any, top: int) -> Prediction:
    with probe(network.network, membrane=False) as tallies:
        logits = network.logits(batch).float()
    if logits.shape != (1, len(network.classes)):
        raise ValueError(
            f"the network returns a tensor {list(logits.shape)} for a file; predict needs one logit for each of the "
            f"{len(network.classes)} classes"
        )
    probabilities = logits.softmax(-1)[0]
    report = measure_energy(network.network, [network.prepare(batch)], network.spec.time_steps)
    values, labels = probabilities.topk(min(top, len(probabilities)))
    classes = [(network.classes[label], value) for label, value in zip(labels.tolist(), values.tolist(), strict=True)]
    spikes = round(sum(float(tally.spikes) for tally in tallies.values()))
    return Prediction(str(file), int(labels[0]), classes, spikes, report.energy, report.total_energy)


def _load(name: str) -> Inference:
    try:
        return load(name)
    except ValueError as error:
        imports = RunFolder(name).imports()
        if not imports:
            raise
        from ..recipes import missing_imports

        raise ValueError(f"{error}{missing_imports(imports)}") from None


def _table(predictions: list[Prediction]) -> str:
    rows = []
    for prediction in predictions:
        energies = [format_value(energy / 1000) for energy in (prediction.energy_pj, prediction.total_energy_pj)]
        cost = [f"{prediction.spikes:,}", *energies]
        for rank, (name, probability) in enumerate(prediction.top):
            first, last = (prediction.file, cost) if rank == 0 else ("", ["", "", ""])
            rows.append([first, name, f"{100 * probability:.1f} %", *last])
    return markdown_table(["file", "class", "probability", "spikes", "energy, nJ", "with memory, nJ"], rows)
