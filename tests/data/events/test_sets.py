"""The sets of recordings: layouts, splits, folds, downloads, and errors that name a file."""

import hashlib
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shortcut_snn.data import CIFAR10DVS, NMNIST, DVSGesture, EventFolder, ImageData, RecordingArchive
from shortcut_snn.data.events.event_images import EventImages
from shortcut_snn.data.events.event_set import RemoteArchive
from shortcut_snn.data.events.published import GESTURES
from shortcut_snn.data.inputs import InputFiles

from ..server import served
from .recordings import (
    CIFAR,
    Data,
    Sample,
    aedat3,
    aedat4,
    nmnist,
    prophesee_dat,
    structured,
    synthetic,
    write,
    write_cifar10dvs,
    write_nmnist,
    write_npz,
)

DVS128 = (128, 128)
pytestmark = pytest.mark.filterwarnings("ignore:.* recordings of (N-MNIST|CIFAR10-DVS)'s")


@pytest.fixture(scope="module")
def data() -> Data:
    return nmnist(60)


@pytest.fixture(autouse=True)
def default_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".home"))


def names(images: Any) -> list[str]:
    return [recording.name for recording in images.recordings]


def check_recordings(images: Any, sensor: tuple[int, int], expected: Any) -> None:
    """Check every recording's events and label against ``expected(name)``."""
    assert isinstance(images, EventImages)
    for recording, label in zip(images.recordings, images.labels.tolist(), strict=True):
        sample, expected_label = expected(recording.name)
        assert sample.equals(recording.read(sensor))
        assert label == expected_label


@pytest.fixture
def official_nmnist(tmp_path: Path, data: Data) -> Path:
    """40 recordings for training and 20 for testing, all ten digits in each."""
    return write_nmnist(tmp_path, data, 40)


@pytest.fixture
def cifar10dvs(tmp_path: Path) -> Path:
    return write_cifar10dvs(tmp_path)


def test_nmnist(official_nmnist: Path, data: Data) -> None:
    loaded = NMNIST(official_nmnist, validation=0).load(10)
    assert (len(loaded.train), len(loaded.test), len(loaded.classes)) == (40, 20, 10)
    assert (loaded.kind, loaded.train.shape) == ("events", (2, 34, 34))
    for images in (loaded.train, loaded.test):
        check_recordings(images, (34, 34), lambda name: (data[0][int(Path(name).stem)], data[1][int(Path(name).stem)]))
    frames, _ = loaded.train[0]
    assert (frames.dtype, tuple(frames.shape)) == (torch.uint8, (10, 2, 34, 34))
    assert names(loaded.train)[0].startswith("Train/0/")


def test_nmnist_in_the_folder_of_its_download(tmp_path: Path, data: Data) -> None:
    with pytest.raises(FileNotFoundError, match=r"data\.root: .*data\.download"):
        NMNIST(tmp_path).load(4)
    write_nmnist(tmp_path / "NMNIST", data, 40)
    with pytest.warns(UserWarning, match="Train has 40 recordings"):
        assert len(NMNIST(tmp_path).load(4).test) == 20
    with pytest.raises(ValueError, match="time_steps"):
        NMNIST(tmp_path).load()


def test_folds_partition_training_and_test_recordings(official_nmnist: Path, tmp_path: Path, data: Data) -> None:
    archive = write_npz(tmp_path / "set.npz", *data, {"is_test": np.arange(60) >= 55})
    for made in (NMNIST, RecordingArchive):
        tests = []
        for fold in range(5):
            root = official_nmnist if made is NMNIST else archive
            loaded = made(root, folds=5, fold=fold, validation=0).load(4)
            assert (len(loaded.train), len(loaded.test)) == (48, 12)
            tests += names(loaded.test)
        assert len(set(tests)) == 60
    other = RecordingArchive(archive, folds=5, fold=4, seed=1).load(4)
    assert set(names(other.test)) != set(tests[-12:])
    with pytest.raises(ValueError, match=r"class '0' .* 7 folds"):
        RecordingArchive(archive, folds=7).load(2)


def test_cifar10dvs(cifar10dvs: Path) -> None:
    def expected(name: str) -> tuple[Sample, int]:
        label, number = CIFAR.index(Path(name).parent.name), int(Path(name).stem.rsplit("_", 1)[1])
        return synthetic(100 * label + number, 300, DVS128), label

    loaded = CIFAR10DVS(cifar10dvs, size=48, validation=0).load(10)
    assert (len(loaded.train), len(loaded.test), loaded.classes) == (90, 10, CIFAR)
    assert torch.bincount(loaded.test.labels).tolist() == [1] * 10
    assert loaded.train[0][0].shape == (10, 2, 48, 48)
    check_recordings(loaded.train, DVS128, expected)


def test_cifar10dvs_split_depends_on_names_alone(cifar10dvs: Path, tmp_path: Path) -> None:
    first = CIFAR10DVS(cifar10dvs, validation=0).load(2)
    for path in cifar10dvs.glob("*/*.aedat"):
        label, number = CIFAR.index(path.parent.name), int(path.stem.rsplit("_", 1)[1])
        content = aedat4(synthetic(100 * label + number, 300, DVS128), DVS128)
        write(tmp_path / "other" / "CIFAR10DVS" / path.parent.name / f"{path.stem}.aedat4", content)
    second = CIFAR10DVS(tmp_path / "other", validation=0).load(2)
    assert names(first.test) == [name.removesuffix("4") for name in names(second.test)]
    assert torch.equal(first.test.fetch(range(10)), second.test.fetch(range(10)))
    assert names(CIFAR10DVS(cifar10dvs, seed=1).load(2).test) != names(first.test)
    assert hashlib.sha256(first.split.encode()).hexdigest()[:16] == "5d367f8e552e5008"


def test_cifar10dvs_errors_name_the_files(cifar10dvs: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"airplane, ..., truck"):
        CIFAR10DVS(cifar10dvs / "cat").load(2)
    loaded = CIFAR10DVS(cifar10dvs).load(2)
    path = cifar10dvs / names(loaded.train)[4]
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=f"^{path} is cut short"):
        loaded.train.fetch([3, 4])
    write(cifar10dvs / "cat" / "cifar10_cat_3.aedat4", b"")
    with pytest.raises(ValueError, match=r"cat_3.aedat and .*cat_3.aedat4"):
        CIFAR10DVS(cifar10dvs).load(2)


def gestures(seed: int) -> list[tuple[int, Sample]]:
    """Eleven gestures, one after the other with a pause between, labels from 1."""
    return [
        (label, Sample(sample.t + 1_000_000 * label, *sample[1:]))
        for label in range(1, 12)
        for sample in [synthetic(100 * seed + label, 400, DVS128)]
    ]


@pytest.fixture
def official_gestures(tmp_path: Path) -> Path:
    """Two people's recordings for training, one's for testing, in the layout of the set's authors."""
    for number, name in enumerate(("user01_led", "user02_lab", "user24_led")):
        made = gestures(number)
        whole = Sample(*(np.concatenate(columns) for columns in zip(*(sample for _, sample in made), strict=True)))
        write(tmp_path / "DvsGesture" / f"{name}.aedat", aedat3(whole))
        rows = "".join(f"{label},{sample.t[0]},{sample.t[-1] + 1}\n" for label, sample in made)
        text = "class,startTime_usec,endTime_usec\n" + rows
        write(tmp_path / "DvsGesture" / f"{name}_labels.csv", text.encode())
    write(tmp_path / "DvsGesture" / "trials_to_train.txt", b"user02_lab.aedat\nuser01_led.aedat\n\n")
    write(tmp_path / "DvsGesture" / "trials_to_test.txt", b"user24_led.aedat\n")
    return tmp_path


def write_gestures(root: Path) -> None:
    """Write the same as arrays of x, y, p and milliseconds, as they are downloaded."""
    for number, name in enumerate(("user01_led", "user02_lab", "user24_led")):
        part = "ibmGestureTest" if number == 2 else "ibmGestureTrain"
        for label, sample in gestures(number):
            array = np.stack([sample.x, sample.y, sample.p, sample.t // 1000], 1).astype(np.int64)
            path = root / "DVSGesture" / part / name / f"{label - 1}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, array)


def check_gestures(loaded: ImageData, unit: int) -> None:
    """Check the recordings of three people, whose times are in units of so many microseconds."""
    assert (len(loaded.train), len(loaded.test), loaded.classes) == (22, 11, GESTURES)
    assert torch.bincount(loaded.train.labels).tolist() == [2] * 11
    expected = {
        (name, label - 1): Sample(sample.t // unit * unit, *sample[1:])
        for seed, name in enumerate(("user01", "user02", "user24"))
        for label, sample in gestures(seed)
    }
    for images, users in ((loaded.train, ("user01", "user02")), (loaded.test, ("user24",))):
        assert isinstance(images, EventImages)
        for recording, label in zip(images.recordings, images.labels.tolist(), strict=True):
            (user,) = (user for user in users if user in recording.name)
            assert expected[user, label].equals(recording.read(DVS128))


def test_dvsgesture_in_the_authors_layout(official_gestures: Path) -> None:
    loaded = DVSGesture(official_gestures, validation=0).load(8)
    check_gestures(loaded, 1)
    assert loaded.train[0][0].shape == (8, 2, 128, 128)
    assert names(loaded.train)[:2] == ["user01_led.aedat#00", "user01_led.aedat#01"]
    assert DVSGesture(official_gestures / "DvsGesture", validation=0).load(8).split == loaded.split


def test_dvsgesture_in_the_downloads_layout(tmp_path: Path) -> None:
    write_gestures(tmp_path)
    loaded = DVSGesture(tmp_path, validation=0).load(8)
    check_gestures(loaded, 1000)
    # A trained network reads the same files.
    files = InputFiles(loaded.description, time_steps=8)
    paths = files.paths(tmp_path / "DVSGesture" / "ibmGestureTest")
    assert all(torch.equal(files.read(path)[0], loaded.test[position][0]) for position, path in enumerate(paths))


@pytest.mark.parametrize(
    ("name", "content", "keyword"),
    [
        ("user01_led_labels.csv", b"label,from,to\n", "startTime_usec"),
        ("user01_led_labels.csv", b"", "startTime_usec"),
        ("user01_led_labels.csv", b"\xff\xfe\0", "ascii"),
        ("user01_led_labels.csv", b"class,startTime_usec,endTime_usec\n1,2\n", "not a list"),
        ("user01_led_labels.csv", b"class,startTime_usec,endTime_usec\n12,2,3\n", "class 12"),
        ("user01_led_labels.csv", b"class,startTime_usec,endTime_usec\n1,5,3\n", "from 5 to 3"),
        ("trials_to_train.txt", b"user77_led.aedat\n", "user77_led.aedat is missing"),
    ],
)
def test_wrong_lists_of_gestures_are_named(official_gestures: Path, name: str, content: bytes, keyword: str) -> None:
    write(official_gestures / "DvsGesture" / name, content)
    with pytest.raises((ValueError, FileNotFoundError), match=keyword) as caught:
        DVSGesture(official_gestures).load(4)
    assert name in str(caught.value)


def test_a_part_without_gestures_is_named(official_gestures: Path, tmp_path: Path) -> None:
    write(official_gestures / "DvsGesture" / "trials_to_train.txt", b"")
    with pytest.raises(ValueError, match=f"^{official_gestures}: the training set is empty"):
        DVSGesture(official_gestures).load(4)
    for name in DVSGesture.content:
        (tmp_path / "arrays" / name).mkdir(parents=True)
    with pytest.raises(ValueError, match="arrays: the training set is empty"):
        DVSGesture(tmp_path / "arrays").load(4)


def test_a_gesture_without_events_is_named(official_gestures: Path) -> None:
    path = official_gestures / "DvsGesture" / "user01_led.aedat"
    write(path.with_name("user01_led_labels.csv"), b"class,startTime_usec,endTime_usec\n1,90000000,90000001\n")
    loaded = DVSGesture(official_gestures, train_limit=11, validation=0).load(4)
    position = names(loaded.train).index("user01_led.aedat#00")
    with pytest.raises(ValueError, match=rf"^{path} \(user01_led.aedat#00\) is empty"):
        loaded.train.fetch([position])
    for content, keyword in ((path.read_bytes()[:-20], "cut short"), (b"", "empty")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"^{path} .*{keyword}"):
            loaded.train.fetch([position])


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A user's class folders, of several formats."""
    for label, name in enumerate(("fall", "jump", "walk")):
        for number in range(10):
            sample = synthetic(100 * label + number, 200, (60, 80))
            if number % 2:
                path = tmp_path / name / f"{number}.npy"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, structured(sample))
            else:
                write(tmp_path / name / "more" / f"{number}.dat", prophesee_dat(sample))
        write(tmp_path / name / "notes.md", b"ignored")
    return tmp_path


def test_class_folders_get_a_seeded_split(own: Path) -> None:
    loaded = EventFolder(own, sensor=(60, 80), size=30).load(5)
    assert (loaded.classes, loaded.train.shape) == (["fall", "jump", "walk"], (2, 30, 40))
    assert torch.bincount(loaded.test.labels).tolist() == [2, 2, 2]
    assert loaded.train[0][0].shape == (5, 2, 30, 40)
    assert "test 0 fall/" in loaded.split


def test_train_test_and_val_folders(own: Path, tmp_path: Path) -> None:
    root = tmp_path / "split"
    (root / "train").mkdir(parents=True)
    for name in ("fall", "jump", "walk"):
        (own / name).rename(root / "train" / name)
        for part in ("test", "val"):
            write(root / part / name / "a.dat", prophesee_dat(synthetic(0, 2, (60, 80))))
    loaded = EventFolder(root, sensor=(60, 80)).load(2)
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (30, 3, 3)


def test_event_folder_errors_name_the_option(own: Path) -> None:
    with pytest.raises(ValueError, match=r"^sensor"):
        EventFolder(own).load(2)
    with pytest.raises(ValueError, match=r"data\.size"):
        EventFolder(own, sensor=(60, 80), size=61).load(2)
    (own / "empty").mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"empty has no recordings \(\.aedat, \.aedat4, \.bin, \.dat, \.npy, \.raw\)"
    ):
        EventFolder(own, sensor=(60, 80)).load(2)


def test_an_archive_has_the_frames_of_the_official_files(tmp_path: Path, data: Data) -> None:
    write_nmnist(tmp_path / "official", data, 40)
    path = write_npz(tmp_path / "set.npz", *data, {"is_test": np.arange(60) >= 40})
    official = NMNIST(tmp_path / "official", validation=0).load(6)
    archived = RecordingArchive(path, validation=0).load(6)
    check_recordings(archived.train, (34, 34), lambda name: (data[0][int(name)], data[1][int(name)]))
    assert names(archived.test) == [f"{number:05d}" for number in range(40, 60)]
    order = np.argsort([int(Path(name).stem) for name in names(official.train)])
    assert torch.equal(official.train.fetch(order), archived.train.fetch(range(40)))


def test_an_archive_without_is_test_gets_a_seeded_split(tmp_path: Path, data: Data) -> None:
    path = write_npz(tmp_path / "set.npz", *data, {})
    first, other = (RecordingArchive(path, seed=seed).load(2) for seed in (0, 1))
    assert torch.bincount(first.test.labels).tolist() == [1] * 10
    assert names(first.test) != names(other.test)


def test_an_overflow_of_the_clock_in_an_archive_is_undone(tmp_path: Path, data: Data) -> None:
    early = write_npz(tmp_path / "early.npz", *data, {})
    with np.load(early) as arrays:
        late = write_npz(tmp_path / "late.npz", *data, {"t": arrays["t"] + np.uint32(2**32 - 100_000)})
    first, other = (RecordingArchive(path).load(2).test.fetch(range(5)) for path in (early, late))
    assert torch.equal(first, other)


@pytest.mark.parametrize(
    ("changes", "keyword"),
    [
        ({"labels": None}, "lacks labels"),
        ({"labels": np.zeros(60)}, "float64"),
        ({"labels": np.zeros(59, int)}, "60 offsets"),
        ({"labels": np.full(60, 99)}, "0 to K - 1.*got 99"),
        ({"labels": np.arange(60) % 10 - 1}, "labels must be 0 to 8 for 9 classes, got -1"),
        ({"labels": np.arange(60) % 10 + 1}, "labels begin at 1.*subtract 1"),
        ({"offsets": np.arange(61)}, "offsets must rise"),
        ({"x": np.zeros(5, int)}, "offsets must rise"),
        ({"y": None}, "lacks y"),
        ({"y": np.array([{}])}, "Object arrays"),
    ],
)
def test_wrong_arrays_of_an_archive_are_named(tmp_path: Path, data: Data, changes: dict, keyword: str) -> None:
    path = write_npz(tmp_path / "set.npz", *data, changes)
    with pytest.raises(ValueError, match=f"^{path}.*{keyword}"):
        RecordingArchive(path, validation=0).load(2).train.fetch([0])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder that can be downloaded from, and its address."""
    folder = tmp_path / "server"
    folder.mkdir()
    with served(folder) as address:
        yield folder, address


def test_a_missing_set_is_downloaded_once(
    tmp_path: Path, cifar10dvs: Path, server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CIFAR10-DVS's download is an archive of archives, one for each class."""
    folder, address = server
    with zipfile.ZipFile(folder / "set.zip", "w") as outer:
        for name in CIFAR:
            inner = shutil.make_archive(str(tmp_path / name), "zip", cifar10dvs, name)
            outer.write(inner, f"{name}.zip")
    md5 = hashlib.md5((folder / "set.zip").read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10DVS, "archives", (RemoteArchive(f"{address}/set.zip", "set.zip", md5),))
    for _ in range(2):
        loaded = CIFAR10DVS(tmp_path / "here", download=True).load(2)
        assert loaded.split == CIFAR10DVS(cifar10dvs).load(2).split
        assert [entry.name for entry in (tmp_path / "here").iterdir()] == ["CIFAR10DVS"]
        (folder / "set.zip").write_bytes(b"something else")
    there = CIFAR10DVS(tmp_path / "there", download=True)
    with pytest.raises(ValueError, match=r"set.zip could not be downloaded .*corrupted"):
        there.load(4)
    (folder / "set.zip").unlink()
    with pytest.raises(ValueError, match=r"set.zip could not be downloaded .*404"):
        there.load(4)
    assert list((tmp_path / "there").iterdir()) == []
    (tmp_path / "there" / "CIFAR10DVS").mkdir()
    with pytest.raises(ValueError, match="not a complete cifar10dvs"):
        there.load(4)
