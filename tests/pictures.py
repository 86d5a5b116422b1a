"""Pictures that are drawn in whole, but without a layout and coarsely: half of what a tiny run takes is pictures."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from matplotlib.figure import Figure

from shortcut_snn.analysis import plots


@contextmanager
def coarse() -> Iterator[None]:
    """Save pictures coarsely within the block."""

    def save(figure: Figure, path: Path) -> None:
        figure.set_layout_engine("none")
        figure.savefig(path, dpi=20)

    with mock.patch.object(plots, "_save", save):
        yield
