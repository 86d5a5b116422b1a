"""Every test starts from the same random numbers, and property tests from the same examples, but for the nightly ones.

The costly parts of short runs are left out where no test depends on them: pictures, compiled kernels, and garbage
collection over everything that was imported.
"""

import gc
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import settings

from shortcut_snn import plots
from shortcut_snn.neurons import get_backend, use_backend

from .disk import unforced
from .forked import OriginalPopen, import_all
from .pictures import coarse
from .registered import forgetting

# The tensors are so small that a second thread costs more than it saves, most of all on a busy machine.
torch.set_num_threads(1)
settings.register_profile("tests", deadline=None, max_examples=25, derandomize=True, database=None)
# Explicit where hypothesis has other defaults in CI. A failure prints how to reproduce it.
settings.register_profile("nightly", deadline=None, max_examples=500, derandomize=False, database=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tests"))
FULL = plots.save_figure
BACKEND = get_backend()
SEED = torch.initial_seed()


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Let what a file draws at its import depend neither on other files nor on their order."""
    if isinstance(collector, pytest.Module):
        torch.manual_seed(SEED)


def pytest_collection_finish() -> None:
    """Exclude what was imported from garbage collection, which every run performs to measure memory."""
    if BACKEND == "auto":
        import_all()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def little_garbage() -> None:
    """Exclude what earlier files left behind, too."""
    if len(gc.get_objects()) > 30_000:
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def cheap_files() -> Iterator[None]:
    """Save pictures of one pixel, and force no file to the disk."""
    with coarse(), unforced():
        yield


@contextmanager
def backend_everywhere(name: Any) -> Iterator[None]:
    """Use a backend here and in the processes that tests start."""
    with use_backend(name), pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHORTCUT_SNN_BACKEND", name)
        yield


@pytest.fixture(autouse=True, scope="session")
def no_kernels() -> Iterator[None]:
    """Run neurons in plain PyTorch: a kernel compiles for a second or two, and each kind of network needs ten."""
    with backend_everywhere("eager"):
        yield


@pytest.fixture(scope="module")
def kernels() -> Iterator[None]:
    """Run neurons in compiled kernels, as a user does."""
    with backend_everywhere(BACKEND):
        yield


@pytest.fixture
def full_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw pictures as a user gets them."""
    monkeypatch.setattr(plots, "save_figure", FULL)


@pytest.fixture
def nothing_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start Python processes as usual: they import themselves what they need."""
    monkeypatch.setattr(subprocess, "Popen", OriginalPopen)


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Forget the components that a test registers."""
    with forgetting():
        yield


@pytest.fixture(autouse=True)
def seed() -> Iterator[None]:
    """Seed torch before a test and give the caller's random state back after it."""
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        yield
