"""Networks in files as a run leaves them, made once."""

from pathlib import Path

import numpy as np
import pytest

from shortcut_snn.deploy.safetensors_files import save_network

from ..data.events.recordings import nmnist, write_npz
from ..training.small import train
from .networks import family


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network of images, its batch norms not folded."""
    return _saved(tmp_path_factory.mktemp("images") / "run", events=False)


@pytest.fixture(scope="session")
def event_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network of events."""
    return _saved(tmp_path_factory.mktemp("recordings") / "run", events=True)


def _saved(folder: Path, events: bool) -> Path:
    network, spec = family("basic", events)
    save_network(network, folder / "network.safetensors", spec.to_dict())
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on digits."""
    folder = tmp_path_factory.mktemp("digits") / "run"
    assert train(folder) == 0
    return folder


@pytest.fixture(scope="session")
def trained_on_events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on recordings of N-MNIST, real ones if they are available."""
    samples, labels = nmnist(80)
    folder = tmp_path_factory.mktemp("events")
    archive = write_npz(folder / "set.npz", samples, labels, {"is_test": np.arange(80) >= 60})
    changes = {
        "data__kind": "events_npz",
        "data__root": archive,
        "data__size": 12,
        "data__cache": folder / "cache",
        "data__batch_size": 20,
        "network__time_steps": 3,
        "training__epochs": 1,
    }
    assert train(folder / "run", **changes) == 0
    return folder / "run"
