"""Spoken words in the HDF5 files of SHD and SSC."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from shortcut_snn.data import SHD, SSC
from shortcut_snn.data.inputs import InputFiles
from shortcut_snn.data.reading import DataFileError

from .recordings import spoken, write_words


@pytest.mark.parametrize("made", [SHD, SSC])
def test_words_become_frames_of_one_row(tmp_path: Path, made: type) -> None:
    for number, name in enumerate(made.content):
        write_words(tmp_path / made.folder / name, list(range(4)) * (number + 2), 4)
    data = made(tmp_path, cache="off", validation=0.25).load(time_steps=5)
    held_out = made is SHD
    assert (len(data.train), len(data.test), len(data.validation)) == (4 if held_out else 8, 12, 4 if held_out else 16)
    assert data.classes == [f"word {label}" for label in range(4)]
    frames, label = data.test[3]
    times, units = spoken(3)
    # A file of a user's, as `predict` takes it.
    columns = [("t", "f8"), ("x", "u2"), ("y", "u2"), ("p", "?")]
    rows = list(zip(times.tolist(), units.tolist(), [0] * len(units), [True] * len(units), strict=True))
    np.save(tmp_path / "word.npy", np.array(rows, columns))
    single = InputFiles(data.description, time_steps=5).read(tmp_path / "word.npy")
    assert torch.equal(single[0], frames)
    t = np.rint(times.astype(float) * 1e6).astype(int)
    expected = np.zeros((5, 700), int)
    np.add.at(expected, ((t - t[0]) * 5 // (t[-1] - t[0] + 1), units), 1)
    assert (frames[..., 0, 0].numpy() == expected).all()
    assert (frames.shape, label) == ((5, 700, 1, 1), 3)


@pytest.mark.parametrize("made", [SHD, SSC])
def test_archives_are_those_that_tonic_downloads(made: type) -> None:
    tonic = getattr(pytest.importorskip("tonic.datasets.hsd"), made.__name__)
    for archive in made.archives:
        part = archive.filename.split("_")[1].split(".")[0]
        assert archive == (
            tonic.base_url + archive.filename,
            *(getattr(tonic, f"{part}_{x}") for x in ["zip", "md5"]),
        )


@pytest.mark.parametrize("damage", ["cut", "text", "labels", "units", "keys"])
def test_other_files_are_named(tmp_path: Path, damage: str) -> None:
    for name in SHD.content:
        write_words(tmp_path / name, [0, 1] * 5, 2)
    path = tmp_path / "shd_test.h5"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:3000])
    elif damage == "text":
        path.write_text("spikes")
    else:
        with h5py.File(path, "a") as file:
            del file[{"labels": "labels", "units": "spikes/units", "keys": "extra/keys"}[damage]]
    with pytest.raises(DataFileError, match=f"^{path} is cut short or not a file of SHD"):
        SHD(tmp_path, cache="off", validation=0).load(2).test.fetch([0])


def test_a_channel_beyond_the_cochlea_is_named(tmp_path: Path) -> None:
    for name in SHD.content:
        write_words(tmp_path / name, [0, 1] * 5, 2)
    with h5py.File(tmp_path / "shd_train.h5", "a") as file:
        file["spikes/units"][4] = np.array([1, 2, 700], np.uint16)
        file["spikes/times"][4] = np.array([0.1, 0.2, 0.3], np.float16)
    train = SHD(tmp_path, cache="off", validation=0).load(2).train
    with pytest.raises(DataFileError, match=r"shd_train.h5 \(shd_train.h5#000004\) .* an event at x=700, y=0"):
        train.fetch([4])
    with pytest.raises(FileNotFoundError, match=r"lacks shd_train.h5, \.\.\., shd_test.h5"):
        SHD(tmp_path / "none").load(2)
