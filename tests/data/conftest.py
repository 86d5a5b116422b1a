"""The images that the tests of data write to disk and read back."""

import numpy as np
import pytest

from .events.recordings import ARCHIVE as RECORDINGS
from .files import ARCHIVE, colour_images


@pytest.fixture(scope="session")
def colour() -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [600, 32, 32, 3] and labels 0, 1, ..., 9, 0, ..."""
    return colour_images(600)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    kind = "real CIFAR-10 images" if ARCHIVE.is_file() else "random images, for want of real ones"
    terminalreporter.write_line(f"tests/data wrote its files from {kind}")
    kind = "real N-MNIST recordings" if RECORDINGS.is_file() else "random events, for want of real recordings"
    terminalreporter.write_line(f"tests/data/events wrote its files from {kind}")
