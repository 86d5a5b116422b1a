"""What costs most of a run of a few steps can be left out where a test does not look at it."""

from collections.abc import Iterator

import pytest

from shortcut_snn import plots
from shortcut_snn._utils import memory


@pytest.fixture(scope="module")
def bare() -> Iterator[None]:
    """No pictures, and memory as it is."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("curves", "by_layer"):
            patch.setattr(plots, name, lambda *_: None)
        patch.setattr(memory, "release_memory", lambda device: None)
        yield
