"""Prediction: the classes of images and event recordings in files, and what each prediction costs."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..energy import measure_energy
from ..measurement import probe
from .inference import Inference


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
        >>> from shortcut_snn.deploy import predict
        >>> path = tempfile.mkdtemp() + "/seven.png"
        >>> Image.fromarray((load_digits().images[7] * 255 / 16).round().astype(np.uint8)).save(path)
        >>> [prediction.label for prediction in predict(load("digits-resnet18"), [path])]
        [7]
    """
    # Loading a network needs no data sets.
    from ..data.inputs import InputFiles

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
    from ..data.reading import DataFileError

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
