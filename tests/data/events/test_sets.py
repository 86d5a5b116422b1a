import hashlib
import http.server
import importlib.util
import tarfile
import threading
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shortcut_snn import components
from shortcut_snn.data import CIFAR10DVS, NMNIST, DVSGesture, EventSet, ImageData
from shortcut_snn.data.download import Archive
from shortcut_snn.data.events.dvsgesture import CLASSES
from shortcut_snn.data.events.event_images import EventImages
from shortcut_snn.data.events.recording import Events
from shortcut_snn.data.images.images import Images
from shortcut_snn.data.inputs import InputFiles

from .recordings import (
    CIFAR,
    Data,
    Sample,
    aedat2,
    aedat3,
    aedat4,
    nmnist,
    structured,
    synthetic,
    write,
    write_cifar10dvs,
    write_nmnist,
    write_npz,
)

DVS128 = (128, 128)


@pytest.fixture(scope="module")
def data() -> Data:
    return nmnist(60)


@pytest.fixture(autouse=True)
def default_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".home"))


def config(name: str, root: Path, **fields: Any) -> EventSet:
    return components.data.make(name, root=root, **fields)  # type: ignore[no-any-return]


def names(images: Images) -> list[str]:
    assert isinstance(images, EventImages)
    return [recording.name for recording in images.recordings]


def same(events: Events, sample: Sample) -> bool:
    return sample.equals(events)


@pytest.fixture
def official_nmnist(tmp_path: Path, data: Data) -> Path:
    """40 recordings for training and 20 for testing, all ten digits in each."""
    return write_nmnist(tmp_path, data, 40)


@pytest.mark.filterwarnings("ignore:.* recordings of N-MNIST's")
class TestNMNIST:
    def test_the_official_layout(self, official_nmnist: Path, data: Data) -> None:
        found = config("nmnist", official_nmnist, validation=0).load(10)
        assert (len(found.train), len(found.test), len(found.classes)) == (40, 20, 10)
        assert (found.kind, found.train.shape) == ("events", (2, 34, 34))
        for images in (found.train, found.test):
            assert isinstance(images, EventImages)
            for recording, label in zip(images.recordings, images.labels.tolist(), strict=True):
                number = int(Path(recording.name).stem)
                assert label == data[1][number]
                assert same(recording.read((34, 34)), data[0][number])
        frames, label = found.train[0]
        assert (frames.dtype, tuple(frames.shape)) == (torch.uint8, (10, 2, 34, 34))
        assert names(found.train)[0].startswith("Train/0/")

    def test_it_may_lie_in_the_downloads_folder(self, tmp_path: Path, data: Data) -> None:
        write_nmnist(tmp_path / "NMNIST", data, 40)
        assert len(config("nmnist", tmp_path).load(4).test) == 20

    def test_missing_recordings_are_told(self, official_nmnist: Path) -> None:
        with pytest.warns(UserWarning, match=r"Train has 40 recordings of N-MNIST's 60,000"):
            config("nmnist", official_nmnist).load(4)

    def test_what_is_missing_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"data.root: .* has no Train and Test; set data.download=true to"):
            config("nmnist", tmp_path).load(4)

    def test_number_of_frames(self, official_nmnist: Path) -> None:
        for time_steps in (1, 7):
            assert config("nmnist", official_nmnist).load(time_steps).train[0][0].shape[0] == time_steps
        with pytest.raises(ValueError, match=r"nmnist: recordings need a number of frames of at least 1"):
            config("nmnist", official_nmnist).load()

    def test_folds(self, official_nmnist: Path) -> None:
        tests = []
        for fold in range(3):
            found = config("nmnist", official_nmnist, folds=3, fold=fold, validation=0).load(4)
            assert len(found.train) + len(found.test) == 60
            assert not set(names(found.train)) & set(names(found.test))
            tests += names(found.test)
        assert len(set(tests)) == 60
        again = config("nmnist", official_nmnist, folds=3, fold=2, seed=1).load(4)
        assert set(names(again.test)) != set(tests[-len(again.test) :])


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_cifar10dvs(tmp_path)


@pytest.mark.filterwarnings("ignore:.* recordings of CIFAR10-DVS's")
class TestCIFAR10DVS:
    def test_the_official_layout(self, archive: Path) -> None:
        found = config("cifar10dvs", archive, size=48, validation=0).load(10)
        assert (len(found.train), len(found.test), found.classes) == (90, 10, CIFAR)
        assert torch.bincount(found.test.labels).tolist() == [1] * 10
        assert found.train[0][0].shape == (10, 2, 48, 48)
        assert isinstance(found.train, EventImages)
        for recording, label in zip(found.train.recordings, found.train.labels.tolist(), strict=True):
            number = int(recording.name.rsplit("_", 1)[1].removesuffix(".aedat"))
            assert same(recording.read(DVS128), synthetic(100 * label + number, 300, DVS128))

    def test_the_split_does_not_depend_on_the_folders_order_or_its_format(self, archive: Path, tmp_path: Path) -> None:
        first = config("cifar10dvs", archive, validation=0).load(2)
        for path in archive.glob("*/*.aedat"):
            label, number = CIFAR.index(path.parent.name), int(path.stem.rsplit("_", 1)[1])
            content = aedat4(synthetic(100 * label + number, 300, DVS128), DVS128)
            write(tmp_path / "other" / "CIFAR10DVS" / path.parent.name / f"{path.stem}.aedat4", content)
        second = config("cifar10dvs", tmp_path / "other", validation=0).load(2)
        assert names(first.test) == [name.removesuffix("4") for name in names(second.test)]
        assert torch.equal(first.test.fetch(range(10)), second.test.fetch(range(10)))
        assert names(config("cifar10dvs", archive, seed=1).load(2).test) != names(first.test)

    def test_the_split_of_the_whole_set_is_pinned(self, tmp_path: Path) -> None:
        for name in reversed(CIFAR):
            (tmp_path / name).mkdir()
            for number in range(1000):
                (tmp_path / name / f"cifar10_{name}_{number}.aedat").touch()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = config("cifar10dvs", tmp_path, validation=0).load(10)
        assert torch.bincount(found.train.labels).tolist() == [900] * 10
        assert torch.bincount(found.test.labels).tolist() == [100] * 10
        assert found.split.splitlines()[9000] == "test 0 airplane/cifar10_airplane_13.aedat"
        assert (
            hashlib.sha256(found.split.encode()).hexdigest()
            == "5141626716935805e20d25d303993dba903e26c772d82567a3c267ad0fe2820e"
        )

    def test_one_recording_in_two_formats_is_refused(self, archive: Path) -> None:
        write(archive / "cat" / "cifar10_cat_3.aedat4", b"")
        with pytest.raises(ValueError, match=r"cat_3.aedat and .*cat_3.aedat4 seem to be the same recording"):
            config("cifar10dvs", archive).load(2)

    def test_other_folders_are_passed_over_and_missing_ones_named(self, archive: Path) -> None:
        write(archive / "events_np" / "a.aedat", b"")
        assert len(config("cifar10dvs", archive).load(2).classes) == 10
        with pytest.raises(FileNotFoundError, match=r"has no airplane, ... and truck; set data.download=true"):
            config("cifar10dvs", archive / "cat").load(2)

    def test_a_damaged_recording_is_named_when_it_is_read(self, archive: Path) -> None:
        found = config("cifar10dvs", archive).load(2)
        path = archive / names(found.train)[4]
        path.write_bytes(path.read_bytes()[:-3])
        with pytest.raises(ValueError, match=f"^{path} is cut short: 5 bytes are left after the last whole event$"):
            found.train.fetch([3, 4])


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


class TestDVSGesture:
    def check(self, found: ImageData, unit: int) -> None:
        assert (len(found.train), len(found.test), found.classes) == (22, 11, CLASSES)
        assert torch.bincount(found.train.labels).tolist() == [2] * 11
        for images, seeds in ((found.train, (0, 1)), (found.test, (2,))):
            assert isinstance(images, EventImages)
            expected = {
                (seed, label - 1): Sample(sample.t // unit * unit, *sample[1:])
                for seed in seeds
                for label, sample in gestures(seed)
            }
            seed_of = {"user01": 0, "user02": 1, "user24": 2}
            for recording, label in zip(images.recordings, images.labels.tolist(), strict=True):
                (seed,) = (seed for user, seed in seed_of.items() if user in recording.name)
                assert same(recording.read(DVS128), expected[seed, label])

    def test_its_authors_layout(self, official_gestures: Path) -> None:
        found = config("dvsgesture", official_gestures, validation=0).load(8)
        self.check(found, 1)
        assert found.train[0][0].shape == (8, 2, 128, 128)
        assert names(found.train)[:2] == ["user01_led.aedat#00", "user01_led.aedat#01"]
        inside = config("dvsgesture", official_gestures / "DvsGesture", validation=0).load(8)
        assert inside.split == found.split

    def test_the_downloads_layout(self, tmp_path: Path) -> None:
        write_gestures(tmp_path)
        found = config("dvsgesture", tmp_path, validation=0).load(8)
        self.check(found, 1000)
        # Its files are what a trained network predicts, too.
        files = InputFiles(found.description, time_steps=8)
        paths = files.found(tmp_path / "DVSGesture" / "ibmGestureTest")
        assert all(torch.equal(files.read(path), found.test[place][0]) for place, path in enumerate(paths))

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("user01_led_labels.csv", b"label,from,to\n", "its first line is not class,startTime_usec,endTime_usec"),
            (
                "user01_led_labels.csv",
                b"class,startTime_usec,endTime_usec\n" + b"1" * 200_000,
                "is no list of gestures: field larger than field limit",
            ),
            ("user01_led_labels.csv", b"", "its first line is not class,startTime_usec,endTime_usec"),
            ("user01_led_labels.csv", b"\xff\xfe\0", "is no text: 'ascii' codec can't decode"),
            ("user01_led_labels.csv", b"class,startTime_usec,endTime_usec\n1,2\n", "'1,2' is not three whole numbers"),
            ("user01_led_labels.csv", b"class,startTime_usec,endTime_usec\n12,2,3\n", "a gesture of class 12 from 2"),
            ("user01_led_labels.csv", b"class,startTime_usec,endTime_usec\n1,5,3\n", "from 5 to 3, which cannot be"),
            ("trials_to_train.txt", b"user77_led.aedat\n", "names user77_led.aedat, but .*user77_led.aedat is missing"),
        ],
    )
    def test_lists_that_are_wrong_are_named(
        self, official_gestures: Path, name: str, content: bytes, message: str
    ) -> None:
        write(official_gestures / "DvsGesture" / name, content)
        with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
            config("dvsgesture", official_gestures).load(4)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)

    def test_a_gesture_without_events_and_a_file_cut_short_are_named(self, official_gestures: Path) -> None:
        path = official_gestures / "DvsGesture" / "user01_led.aedat"
        write(path.with_name("user01_led_labels.csv"), b"class,startTime_usec,endTime_usec\n1,90000000,90000001\n")
        found = config("dvsgesture", official_gestures, train_limit=11, validation=0).load(4)
        place = names(found.train).index("user01_led.aedat#00")
        with pytest.raises(ValueError, match=f"^{path} from 90000000 to 90000001 us is empty: it holds no events$"):
            found.train.fetch([place])
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(ValueError, match=f"^{path} is cut short: it ends within a packet$"):
            found.train.fetch([place])
        path.write_bytes(b"")
        with pytest.raises(ValueError, match=f"^{path} is empty$"):
            found.train.fetch([place])
        path.unlink()
        with pytest.raises(ValueError, match=f"^{path} cannot be read: No such file or directory$"):
            found.train.fetch([place])


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
                lines = "".join(f"{t} {x} {y} {p}\n" for t, x, y, p in zip(*sample, strict=True))
                write(tmp_path / name / "more" / f"{number}.txt", lines.encode())
        write(tmp_path / name / "notes.md", b"passed over")
    return tmp_path


OWN = {"sensor": (60, 80), "size": 30}


class TestEvents:
    def test_class_folders_get_a_seeded_split(self, own: Path) -> None:
        found = config("events", own, **OWN).load(5)
        assert (found.classes, found.train.shape) == (["fall", "jump", "walk"], (2, 30, 40))
        assert torch.bincount(found.test.labels).tolist() == [2, 2, 2]
        assert found.train[0][0].shape == (5, 2, 30, 40)
        assert "test 0 fall/" in found.split

    def test_train_and_test_folders(self, own: Path, tmp_path: Path) -> None:
        for part in ("train", "test", "val"):
            (tmp_path / "split" / part).mkdir(parents=True)
        for name in ("fall", "jump", "walk"):
            (own / name).rename(tmp_path / "split" / "train" / name)
            for part in ("test", "val"):
                write(tmp_path / "split" / part / name / "a.txt", b"0 1 2 1\n9 3 4 0\n")
        found = config("events", tmp_path / "split", **OWN).load(2)
        assert (len(found.train), len(found.validation), len(found.test)) == (30, 3, 3)
        (tmp_path / "split" / "test" / "walk").rename(tmp_path / "split" / "test" / "run")
        with pytest.raises(ValueError, match="test has a class 'run' that train has not"):
            config("events", tmp_path / "split", **OWN).load(2)

    def test_what_is_missing_is_named(self, own: Path) -> None:
        with pytest.raises(ValueError, match=r"^sensor: the camera's height and width are needed"):
            config("events", own).load(2)
        with pytest.raises(FileNotFoundError, match=r"data.root: there is no folder .*nowhere"):
            config("events", own / "nowhere", **OWN).load(2)
        (own / "empty").mkdir()
        with pytest.raises(FileNotFoundError, match=r"empty has no recordings \(.aedat, .aedat4, .bin, .csv, .dat"):
            config("events", own, **OWN).load(2)
        with pytest.raises(ValueError, match=r"data.size: frames cannot be larger than the sensor's 60 pixels"):
            config("events", own, sensor=(60, 80), size=61).load(2)
        (own / "empty").rmdir()
        for name, part in {"fall": "Train", "jump": "Test", "walk": "Meta"}.items():
            (own / name).rename(own / part)
        with pytest.raises(ValueError, match="has the folders Test, Train, which are no classes"):
            config("events", own, **OWN).load(2)


class TestNpz:
    def test_recordings_and_parts(self, tmp_path: Path, data: Data) -> None:
        is_test = np.arange(60) % 3 == 0
        path = write_npz(tmp_path / "set.npz", *data, {"is_test": is_test})
        found = config("nmnist_npz", path, validation=0).load(6)
        assert (len(found.train), len(found.test), len(found.classes)) == (40, 20, 10)
        for images in (found.train, found.test):
            assert isinstance(images, EventImages)
            for recording, label in zip(images.recordings, images.labels.tolist(), strict=True):
                assert same(recording.read((34, 34)), data[0][int(recording.name)])
                assert label == data[1][int(recording.name)]
        assert names(found.test) == [f"{number:05d}" for number in range(0, 60, 3)]

    def test_its_frames_are_those_of_the_official_files(self, tmp_path: Path, data: Data) -> None:
        write_nmnist(tmp_path / "official", data, 40)
        path = write_npz(tmp_path / "set.npz", *data, {"is_test": np.arange(60) >= 40})
        with pytest.warns(UserWarning, match="recordings of N-MNIST's"):
            official = config("nmnist", tmp_path / "official", validation=0).load(6)
        archived = config("nmnist_npz", path, validation=0).load(6)
        order = np.argsort([int(Path(name).stem) for name in names(official.train)])
        assert torch.equal(official.train.fetch(order), archived.train.fetch(range(40)))

    def test_without_is_test_a_fifth_is_held_out(self, tmp_path: Path, data: Data) -> None:
        path = write_npz(tmp_path / "set.npz", *data, {})
        first, other = (config("nmnist_npz", path, seed=seed).load(2) for seed in (0, 1))
        assert torch.bincount(first.test.labels).tolist() == [1] * 10
        assert names(first.test) != names(other.test)

    def test_five_folds(self, tmp_path: Path, data: Data) -> None:
        path = write_npz(tmp_path / "set.npz", *data, {"is_test": np.arange(60) >= 55})
        seen = []
        for fold in range(5):
            found = config("nmnist_npz", path, folds=5, fold=fold, validation=0).load(2)
            assert len(found.test) == 12
            assert set(torch.bincount(found.test.labels).tolist()) <= {1, 2}
            seen += names(found.test)
        assert len(set(seen)) == 60
        with pytest.raises(ValueError, match=r"class '0' has too few samples \(6\) for 7 folds"):
            config("nmnist_npz", path, folds=7).load(2)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"labels": None}, "lacks labels; an archive of events needs x, y, p, t, offsets, labels"),
            ({"labels": np.zeros(60)}, r"labels must be integers \[n\], got float64 \[60\]"),
            ({"labels": np.zeros(59, int)}, "59 labels need 60 offsets"),
            ({"labels": np.full(60, -1)}, "labels must be 0 to K - 1 for K classes"),
            ({"offsets": np.arange(61)}, "offsets must rise from 0 to the number of events"),
            ({"x": np.zeros(5, int)}, "offsets must rise from 0 to the number of events, the same in x, y, p and t"),
            ({"y": None}, "lacks y; an archive of events needs"),
            ({"t": np.linspace(0, 0.3, 5)}, r"t must be integers \[n\], got float64 \[5\]"),
            ({"y": np.array([{}])}, "is not a readable .npz archive of plain arrays: Object arrays cannot be loaded"),
        ],
    )
    def test_other_archives_are_named(self, tmp_path: Path, data: Data, changes: dict, message: str) -> None:
        path = write_npz(tmp_path / "set.npz", *data, changes)
        with pytest.raises(ValueError, match=f"^{path}.*{message}") as caught:
            config("nmnist_npz", path, validation=0).load(2).train.fetch([0])
        assert "\n" not in str(caught.value)

    def test_a_damaged_archive_is_named(self, tmp_path: Path, data: Data) -> None:
        whole = write_npz(tmp_path / "set.npz", *data, {}).read_bytes()
        for content in (b"", whole[:1000], whole[: len(whole) - 50], b"no archive" * 100):
            path = write(tmp_path / "set.npz", content)
            with pytest.raises(ValueError, match=f"^{path} is not a readable .npz archive of plain arrays: "):
                config("nmnist_npz", path).load(2)
        with pytest.raises(FileNotFoundError, match=r"data.root: there is no file .*nowhere.npz"):
            config("nmnist_npz", tmp_path / "nowhere.npz").load(2)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder that can be downloaded from, and its address."""
    folder = tmp_path / "server"
    folder.mkdir()
    handler = lambda *given: Quiet(*given, directory=str(folder))  # noqa: E731
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


def packed(path: Path, root: Path, files: list[Path]) -> bytes:
    """Write an archive of files, named after a folder, and return its bytes."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as made:
            for file in files:
                made.write(file, file.relative_to(root))
    else:
        with tarfile.open(path, "w:gz") as tar:
            for file in files:
                tar.add(file, file.relative_to(root))
    return path.read_bytes()


def served(folder: Path, address: str, root: Path, parts: dict[str, list[Path]]) -> tuple[Archive, ...]:
    """Put archives of files onto the server."""
    return tuple(
        Archive(f"{address}/{name}", name, hashlib.md5(packed(folder / name, root, files)).hexdigest())
        for name, files in parts.items()
    )


@pytest.mark.filterwarnings("ignore:.* recordings of N-MNIST's")
def test_a_set_that_is_missing_is_downloaded(
    tmp_path: Path, data: Data, server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = server
    official = write_nmnist(tmp_path / "official", data, 40)
    parts = {f"{part.lower()}.zip": sorted((official / part).rglob("*.bin")) for part in ("Train", "Test")}
    monkeypatch.setattr(NMNIST, "archives", served(folder, address, official, parts))
    wanted = config("nmnist", tmp_path / "here", download=True, validation=0)
    found = wanted.load(4)
    assert (len(found.train), len(found.test)) == (40, 20)
    assert [entry.name for entry in (tmp_path / "here").iterdir()] == ["NMNIST"]
    assert sorted(entry.name for entry in (tmp_path / "here" / "NMNIST").iterdir()) == ["Test", "Train"]
    (folder / "test.zip").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"test.zip could not be downloaded to .*other: File not found or corrupted"):
        config("nmnist", tmp_path / "other", download=True).load(4)
    (folder / "train.zip").unlink()
    assert wanted.load(4).split == found.split

    with pytest.raises(ValueError, match=r"train.zip could not be downloaded to .*there: HTTP Error 404"):
        config("nmnist", tmp_path / "there", download=True).load(4)
    assert list((tmp_path / "there").iterdir()) == []
    (tmp_path / "there" / "NMNIST").mkdir()
    with pytest.raises(ValueError, match="NMNIST is not a whole nmnist; move it away to download the set"):
        config("nmnist", tmp_path / "there", download=True).load(4)


@pytest.mark.filterwarnings("ignore:.* recordings of CIFAR10-DVS's")
def test_archives_in_a_downloaded_archive_are_unpacked(
    tmp_path: Path, archive: Path, server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = server
    inner = [tmp_path / f"{name}.zip" for name in CIFAR]
    for path in inner:
        packed(path, archive, sorted((archive / path.stem).iterdir()))
    monkeypatch.setattr(CIFAR10DVS, "archives", served(folder, address, tmp_path, {"set.zip": inner}))
    found = config("cifar10dvs", tmp_path / "here", download=True).load(2)
    assert found.split == config("cifar10dvs", archive).load(2).split
    assert sorted(entry.name for entry in (tmp_path / "here" / "CIFAR10DVS").iterdir()) == CIFAR


def test_gestures_are_downloaded(tmp_path: Path, server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, address = server
    write_gestures(tmp_path)
    parts = {f"{part}.tar.gz": [tmp_path / "DVSGesture" / part] for part in DVSGesture.content}
    monkeypatch.setattr(DVSGesture, "archives", served(folder, address, tmp_path / "DVSGesture", parts))
    found = config("dvsgesture", tmp_path / "here", download=True).load(2)
    assert found.split == config("dvsgesture", tmp_path).load(2).split


def test_the_library_is_there() -> None:
    """These tests need all of the extra `events`."""
    assert importlib.util.find_spec("aedat")


def test_a_sensor_may_be_a_list(tmp_path: Path) -> None:
    for label, name in enumerate(("left", "right")):
        for number in range(4):
            write(tmp_path / name / f"{number}.aedat", aedat2(synthetic(10 * label + number, 300, DVS128)))
    sizes: Any = [128, 128]
    found = config("events", tmp_path, sensor=sizes, cache="off", validation=0).load(3)
    assert found.train[0][0].shape == (3, 2, 128, 128)
