"""The command keeps freed memory where it trains on a CPU, unless it is told not to."""

from importlib import import_module
from pathlib import Path

import pytest

from shortcut_snn.data import ImageData

from .small import train


class Reached(ValueError):
    pass


@pytest.mark.parametrize(("entry", "calls"), [("true", 1), ("false", 0)])
def test_the_recipe_decides(entry: str, calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []

    def stop(*arguments: object) -> None:
        raise Reached("all is ready for the first step")

    # The package has a function of the same name.
    monkeypatch.setattr(import_module("shortcut_snn.training.run"), "keep_freed_memory", lambda: kept.append(1))
    monkeypatch.setattr(ImageData, "loaders", stop)
    assert train(tmp_path / "run", training__keep_freed_memory=entry, training__accelerator="cpu") == 1
    assert len(kept) == calls
