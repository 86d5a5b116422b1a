"""A network as a run leaves it, and graphs, made once."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shortcut_snn.deploy import Description, fold
from shortcut_snn.deploy.nir_export import write_nir
from shortcut_snn.deploy.nir_graph import nir_graph
from shortcut_snn.deploy.onnx_export import write_onnx
from shortcut_snn.deploy.program import make_program
from shortcut_snn.deploy.weights import save_network
from shortcut_snn.nets import SpikingNetwork

from ..data.events.recordings import nmnist, write_npz
from ..registered import forgetting
from ..training.small import train
from .networks import family, small


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Forget behind a test what it registers."""
    with forgetting():
        yield


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network of images, its norms not folded."""
    network, about = family("basic")
    folder = tmp_path_factory.mktemp("images") / "run"
    save_network(network, folder / "network.safetensors", about.to_dict())
    return folder


@pytest.fixture(scope="session")
def event_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network of events."""
    network, about = family("basic", events=True)
    folder = tmp_path_factory.mktemp("recordings") / "run"
    save_network(network, folder / "network.safetensors", about.to_dict())
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on real digits, finished."""
    folder = tmp_path_factory.mktemp("digits") / "run"
    assert train(folder) == 0
    return folder


@pytest.fixture(scope="session")
def trained_on_events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on recordings of N-MNIST, real ones if they are there."""
    samples, labels = nmnist(80)
    folder = tmp_path_factory.mktemp("events")
    archive = write_npz(folder / "set.npz", samples, labels, {"is_test": np.arange(80) >= 60})
    changes = {
        "data__kind": "nmnist_npz",
        "data__root": archive,
        "data__size": 12,
        "data__cache": folder / "cache",
        "data__batch_size": 20,
        "network__time_steps": 3,
        "training__epochs": 1,
    }
    assert train(folder / "run", **changes) == 0
    return folder / "run"


@pytest.fixture(scope="session")
def event_graphs(tmp_path_factory: pytest.TempPathFactory) -> tuple[SpikingNetwork, Description, Path]:
    """A network of events, what it is, and a folder of its graphs."""
    network, about = small(events=True, block="sew")
    folder, folded = tmp_path_factory.mktemp("graphs"), fold(network)
    write_nir(nir_graph(folded, about), folder / "network.nir")
    write_onnx(make_program(folded, about, False), about, folder / "network.onnx")
    write_onnx(make_program(folded, about, True), about, folder / "network-step.onnx")
    return network, about, folder
