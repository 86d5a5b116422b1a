"""Prediction: the classes of images and event recordings in files, and what each prediction costs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..energy import measure_energy
from ..measurement import probe
from .inference import Inference


@dataclass(frozen=True)
class Prediction:
    """The classes that a network predicts for a file, and what the prediction cost, in pJ (45 nm).

    A long recording is cut into samples as in training. Their probabilities are averaged, and their costs are added.
    ``top`` are names and probabilities of the most likely classes, and ``votes`` counts the samples for each.
    """

    file: str
    label: int
    top: list[tuple[str, float]]
    spikes: int
    energy_pj: float
    total_energy_pj: float
    samples: int
    votes: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction for JSON, with the most likely class and its probability also at the top level."""
        top = [
            {"class": name, "probability": probability, "votes": votes}
            for (name, probability), votes in zip(self.top, self.votes, strict=True)
        ]
        cost = {"spikes": self.spikes, "energy_pj": self.energy_pj, "total_energy_pj": self.total_energy_pj}
        return {"file": self.file, "label": self.label, **top[0], "samples": self.samples, "top": top, **cost}


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
    from ..data.reading import DataFileError

    def read_or_report(read: Callable[[Path], Any], path: Path) -> Any:
        try:
            return read(path)
        except DataFileError as error:
            if on_error is None:
                raise
            on_error(str(error))
            return None

    files = InputFiles(network.spec.data, network.spec.time_steps)
    for path in inputs:
        # None means that an error was reported.
        for file in read_or_report(files.paths, Path(path)) or ():
            if (samples := read_or_report(files.read, file)) is not None:
                yield _predict_file(network, file, samples, top)


def _predict_file(network: Inference, file: Path, samples: Tensor, top: int) -> Prediction:
    batches: Sequence[Tensor] = torch.split(samples, 16)
    with probe(network.network, membrane=False) as tallies:
        logits = torch.cat([network.logits(batch).float() for batch in batches])
    shape, expected = list(logits.shape), [len(samples), len(network.classes)]
    if shape != expected:
        raise ValueError(f"the network returns logits {shape}; predict needs one for each class, {expected}")
    probabilities = logits.softmax(-1)
    votes = probabilities.argmax(-1).bincount(minlength=len(network.classes))
    values, labels = probabilities.mean(0).topk(min(top, len(network.classes)))
    inputs = [network.model_inputs(batch) for batch in batches]
    report = measure_energy(network.network, inputs, network.spec.time_steps)
    return Prediction(
        str(file),
        int(labels[0]),
        [(network.classes[label], value) for label, value in zip(labels.tolist(), values.tolist(), strict=True)],
        round(sum(float(tally.spikes) for tally in tallies.values())),
        len(samples) * report.energy,
        len(samples) * report.total_energy,
        len(samples),
        tuple(votes[labels].tolist()),
    )
