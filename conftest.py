"""The documentation's code blocks are tests; what takes longest begins first, so that no process waits for another."""

import subprocess
from pathlib import Path

import pytest

from tests.forked import Popen
from tests.pages import pages

subprocess.Popen = Popen  # type: ignore[assignment, misc]
pytest_collect_file = pages(Path(__file__).parent).pytest()

LONGEST = (
    "tests/neurons/kernels/test_every_neuron.py",
    "tests/deploy/test_export_command.py",
    "tests/neurons/kernels/test_norm_neuron.py",
    "tests/deploy/test_graphs.py",
    "tests/diagnosis/test_diagnosis.py",
    "tests/nets/test_compile.py",
    "tests/introspection/test_zoo.py",
    "tests/neurons/kernels/test_triton.py",
    "tests/training/test_callback.py",
    "tests/nets/test_event_layers.py",
    "tests/research/studies/test_claim.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first, then pages, then the rest; within a file the order stays."""

    def rank(item: pytest.Item) -> int:
        name = item.path.relative_to(config.rootpath).as_posix()
        return LONGEST.index(name) if name in LONGEST else len(LONGEST) + (item.path.suffix != ".md")

    items.sort(key=rank)
