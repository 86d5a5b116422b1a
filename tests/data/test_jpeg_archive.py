import io
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shortcut_snn.data import ImageArchive

from .files import NAMES

SCRIPT = Path(__file__).parents[2] / "research" / "studies" / "cifar10_npz.py"
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="the studies are not part of this copy of the source")


@pytest.fixture
def archive(colour: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> Path:
    arrays: dict[str, np.ndarray] = {"classes": np.array(NAMES)}
    for part, span in (("train", slice(0, 60)), ("test", slice(60, 90))):
        files = []
        for image in colour[0][span]:
            file = io.BytesIO()
            Image.fromarray(image).save(file, "JPEG", quality=95)
            files.append(file.getvalue())
        arrays[f"jpeg_{part}"] = np.frombuffer(b"".join(files), np.uint8)
        arrays[f"off_{part}"] = np.cumsum([0, *map(len, files)])
        arrays[f"y_{part}"] = colour[1][span].astype(np.uint8)
    np.savez(tmp_path / "jpegs.npz", **arrays)
    return tmp_path / "jpegs.npz"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_an_archive_of_jpegs_becomes_a_plain_one(
    archive: Path, colour: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "plain.npz"
    with pytest.raises(SystemExit, match="60 images"):
        run(monkeypatch, archive, target, "--train", 100)
    run(monkeypatch, archive, target, "--train", 40, "--test", 20)
    data = ImageArchive(target, validation=0).load()
    assert (len(data.train), len(data.test), data.classes, data.train.shape) == (40, 20, NAMES, (3, 32, 32))
    assert data.test.labels.tolist() == colour[1][60:80].tolist()
    error = data.train.fetch(range(40)).numpy().astype(int) - colour[0][:40].transpose(0, 3, 1, 2)
    assert np.abs(error).mean() < 12  # JPEG loses a little
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jpegs.npz", "plain.npz"]
