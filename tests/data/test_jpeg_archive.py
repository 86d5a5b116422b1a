import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shortcut_snn.data import ImageArchive

from .files import NAMES

SCRIPT = Path(__file__).parents[2] / "studies" / "cifar10_npz.py"
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


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_an_archive_of_jpegs_becomes_a_plain_one(
    archive: Path, colour: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    target = tmp_path / "plain.npz"
    done = run(archive, target, "--train", 40, "--test", 20)
    assert done.returncode == 0, done.stderr
    data = ImageArchive(target, validation=0).load()
    assert (len(data.train), len(data.test), data.classes, data.train.shape) == (40, 20, NAMES, (3, 32, 32))
    assert data.test.labels.tolist() == colour[1][60:80].tolist()
    error = data.train.fetch(range(40)).numpy().astype(int) - colour[0][:40].transpose(0, 3, 1, 2)
    assert np.abs(error).mean() < 12  # JPEG loses a little
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jpegs.npz", "plain.npz"]


def test_an_archive_of_pngs_loses_nothing(archive: Path, colour: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    with np.load(archive) as jpegs:
        arrays = {key: jpegs[key] for key in jpegs if not key.startswith("jpeg_")}
    for part, span in (("train", slice(0, 60)), ("test", slice(60, 90))):
        files = []
        for image in colour[0][span]:
            file = io.BytesIO()
            Image.fromarray(image).save(file, "PNG")
            files.append(file.getvalue())
        arrays |= {f"png_{part}": np.frombuffer(b"".join(files), np.uint8)}
        arrays |= {f"off_{part}": np.cumsum([0, *map(len, files)])}
    np.savez(tmp_path / "pngs.npz", **arrays)
    done = run(tmp_path / "pngs.npz", tmp_path / "plain.npz")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "plain.npz") as plain:
        np.testing.assert_array_equal(plain["x_train"], colour[0][:60])


def test_more_images_than_there_are(archive: Path, tmp_path: Path) -> None:
    done = run(archive, tmp_path / "plain.npz", "--train", 100)
    assert done.returncode != 0
    assert "60 images" in done.stderr
    assert not (tmp_path / "plain.npz").exists()
