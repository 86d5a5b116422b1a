"""Two small runs, trained once: digits, and frames of events."""

from pathlib import Path

import numpy as np
import pytest

from ..data.events.recordings import nmnist, write_npz
from ..training.small import train


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on real digits, finished."""
    folder = tmp_path_factory.mktemp("digits") / "run"
    assert train(folder) == 0
    return folder


@pytest.fixture(scope="session")
def event_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on recordings of N-MNIST, real ones if they are there."""
    samples, labels = nmnist(80)
    folder = tmp_path_factory.mktemp("recordings")
    archive = write_npz(folder / "set.npz", samples, labels, {"is_test": np.arange(80) >= 60})
    changes = {
        "data__name": "nmnist_npz",
        "data__root": archive,
        "data__events__size": 12,
        "data__events__cache": folder / "cache",
        "data__batch_size": 20,
        "network__time_steps": 3,
        "train__epochs": 1,
    }
    assert train(folder / "run", **changes) == 0
    return folder / "run"
