import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from shortcut_snn.data import EventFolder, EventSet, RecordingArchive

from ..batches import epoch, equal
from .recordings import atis_bin, nmnist, write, write_npz

T = 5


@pytest.fixture(scope="module", params=["files", "archive"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 recordings in files of their own, or all in one."""
    root = tmp_path_factory.mktemp("recordings")
    samples, labels = nmnist(60)
    if request.param == "archive":
        return write_npz(root / "set.npz", samples, labels, {"is_test": np.arange(60) >= 50})
    for number, (sample, label) in enumerate(zip(samples, labels, strict=True)):
        write(root / "set" / ("train" if number < 50 else "test") / str(label) / f"{number:02d}.bin", atis_bin(sample))
    return root / "set"


@pytest.fixture
def fresh(source: Path, tmp_path: Path) -> Path:
    """The same, as a copy that can be destroyed."""
    copy = tmp_path / source.name
    (shutil.copytree if source.is_dir() else shutil.copy)(source, copy)
    return copy


def config(source: Path, cache: str = "off", **fields: object) -> EventSet:
    made = RecordingArchive if source.suffix else EventFolder
    given = {"augment": ("flip", "roll"), "validation": 0} | fields
    return made(source, sensor=(34, 34), size=24, cache=cache, **given)  # type: ignore[arg-type]


def test_workers_resume_and_cache_change_nothing(source: Path, tmp_path: Path) -> None:
    given = config(source, batch_size=16)
    data = given.load(T)
    alone = data.loaders(3)
    first, second = epoch(alone, 0), epoch(alone, 1)
    assert not equal(first, second)
    assert not equal(epoch(data.loaders(4), 0), first)
    kept = config(source, str(tmp_path / "cache"), batch_size=16, workers=2)
    with_workers = kept.load(T).loaders(3)
    # Not from the start, as after a resume, and backwards; the first of these fills the cache from two processes.
    assert equal(epoch(with_workers, 1), second)
    assert equal(epoch(with_workers, 0), first)


def test_the_second_epoch_reads_no_events(fresh: Path, tmp_path: Path) -> None:
    given = config(fresh, str(tmp_path / "cache"), batch_size=16)
    made = given.load(T).loaders(0)
    first, test = epoch(made, 0), list(made.test)
    if fresh.is_dir():
        shutil.rmtree(fresh)
    else:
        fresh.unlink()
        for images in (made.train.dataset.images, made.test.dataset.images):  # type: ignore[attr-defined]
            # Its events are held in memory; these must not be asked for either.
            images.recordings[0].reader.__self__.__dict__.pop("_events", None)
    assert equal(epoch(made, 0), first)
    assert equal(list(made.test), test)


def test_all_frames_of_a_recording_are_augmented_alike(source: Path) -> None:
    given = config(source, batch_size=50)
    data = given.load(T)
    made = data.loaders(7)
    made.train.sampler.set_epoch(2)  # type: ignore[attr-defined]
    indices = [index for _, index in made.train.sampler]
    moves = set()
    for index, frames in zip(indices, next(iter(made.train))[0], strict=True):
        before = data.train[index][0]
        candidates = [
            (flipped, down, right)
            for flipped, whole in ((False, before), (True, before.flip(-1)))
            for down in range(-5, 6)
            for right in range(-5, 6)
            if torch.equal(torch.roll(whole, (down, right), (-2, -1)), frames)
        ]
        assert len(candidates) >= 1
        moves.add(candidates[0])
    assert len(moves) > 25


def test_a_data_set_can_be_sent_to_another_process(source: Path) -> None:
    data = config(source).load(T)
    data.train.fetch([0])
    sent = pickle.dumps(data.train)
    assert len(sent) < 30_000
    assert torch.equal(pickle.loads(sent).fetch([3]), data.train.fetch([3]))


def test_limits_and_validation(source: Path, tmp_path: Path) -> None:
    data = config(source, str(tmp_path), train_limit=30, test_limit=10, validation=0.2).load(T)
    assert (len(data.train), len(data.validation), len(data.test)) == (20, 10, 10)
    assert data.split.count("validation ") == 10
