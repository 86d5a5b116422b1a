import hashlib
import http.server
import importlib.util
import threading
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tonic
import torch

from shortcut_snn.data import DataConfig, EventConfig, ImageData, load
from shortcut_snn.data.events.dvsgesture import CLASSES
from shortcut_snn.data.events.formats import files
from shortcut_snn.data.events.images import EventImages
from shortcut_snn.data.events.recording import Events
from shortcut_snn.data.images import Images

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


def config(name: str, root: Path, events: EventConfig | None = None, **fields: Any) -> DataConfig:
    return DataConfig(name, str(root), events=events or EventConfig(), **fields)  # type: ignore[arg-type]


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
        found = load(config("nmnist", official_nmnist, validation=0), 10)
        assert (len(found.train), len(found.test), found.num_classes) == (40, 20, 10)
        assert (found.kind, found.channels, found.image_size) == ("events", 2, (34, 34))
        for images in (found.train, found.test):
            assert isinstance(images, EventImages)
            for recording, label in zip(images.recordings, images.labels.tolist(), strict=True):
                number = int(Path(recording.name).stem)
                assert label == data[1][number]
                assert same(recording.read((34, 34)), data[0][number])
        frames, label = found.train[0]
        assert (frames.dtype, tuple(frames.shape)) == (torch.uint8, (10, 2, 34, 34))
        assert names(found.train)[0].startswith("Train/0/")

    def test_it_may_lie_in_tonics_folder(self, tmp_path: Path, data: Data) -> None:
        write_nmnist(tmp_path / "NMNIST", data, 40)
        assert len(load(config("nmnist", tmp_path), 4).test) == 20

    def test_missing_recordings_are_told(self, official_nmnist: Path) -> None:
        with pytest.warns(UserWarning, match=r"Train has 40 recordings of N-MNIST's 60,000"):
            load(config("nmnist", official_nmnist), 4)

    def test_what_is_missing_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"data.root: .* has no Train and Test; set data.download=true to"):
            load(config("nmnist", tmp_path), 4)

    def test_number_of_frames(self, official_nmnist: Path) -> None:
        for time_steps in (1, 7):
            assert load(config("nmnist", official_nmnist), time_steps).train[0][0].shape[0] == time_steps
        with pytest.raises(ValueError, match=r"data.name=nmnist: recordings need a number of frames of at least 1"):
            load(config("nmnist", official_nmnist))

    def test_without_tonic_it_says_what_to_install(
        self, official_nmnist: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(files, "find_spec", lambda name: None)
        with pytest.raises(ValueError, match=r"reading .bin files needs tonic: pip install 'shortcut-snn\[events\]'"):
            load(config("nmnist", official_nmnist), 4)

    def test_folds(self, official_nmnist: Path) -> None:
        tests = []
        for fold in range(3):
            events = EventConfig(folds=3, fold=fold)
            found = load(config("nmnist", official_nmnist, events, validation=0), 4)
            assert len(found.train) + len(found.test) == 60
            assert not set(names(found.train)) & set(names(found.test))
            tests += names(found.test)
        assert len(set(tests)) == 60
        again = load(config("nmnist", official_nmnist, EventConfig(folds=3, fold=2), seed=1), 4)
        assert set(names(again.test)) != set(tests[-len(again.test) :])


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_cifar10dvs(tmp_path)


@pytest.mark.filterwarnings("ignore:.* recordings of CIFAR10-DVS's")
class TestCIFAR10DVS:
    def test_the_official_layout(self, archive: Path) -> None:
        found = load(config("cifar10dvs", archive, EventConfig(size=48), validation=0), 10)
        assert (len(found.train), len(found.test), found.class_names) == (90, 10, CIFAR)
        assert torch.bincount(found.test.labels).tolist() == [1] * 10
        assert found.train[0][0].shape == (10, 2, 48, 48)
        assert isinstance(found.train, EventImages)
        for recording, label in zip(found.train.recordings, found.train.labels.tolist(), strict=True):
            number = int(recording.name.rsplit("_", 1)[1].removesuffix(".aedat"))
            assert same(recording.read(DVS128), synthetic(100 * label + number, 300, DVS128))

    def test_the_split_does_not_depend_on_the_folders_order_or_its_format(self, archive: Path, tmp_path: Path) -> None:
        first = load(config("cifar10dvs", archive, validation=0), 2)
        for path in archive.glob("*/*.aedat"):
            label, number = CIFAR.index(path.parent.name), int(path.stem.rsplit("_", 1)[1])
            content = aedat4(synthetic(100 * label + number, 300, DVS128), DVS128)
            write(tmp_path / "other" / "CIFAR10DVS" / path.parent.name / f"{path.stem}.aedat4", content)
        second = load(config("cifar10dvs", tmp_path / "other", validation=0), 2)
        assert names(first.test) == [name.removesuffix("4") for name in names(second.test)]
        assert torch.equal(first.test.fetch(range(10)), second.test.fetch(range(10)))
        assert names(load(config("cifar10dvs", archive, seed=1), 2).test) != names(first.test)

    def test_the_split_of_the_whole_set_is_pinned(self, tmp_path: Path) -> None:
        for name in reversed(CIFAR):
            (tmp_path / name).mkdir()
            for number in range(1000):
                (tmp_path / name / f"cifar10_{name}_{number}.aedat").touch()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = load(config("cifar10dvs", tmp_path, validation=0), 10)
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
            load(config("cifar10dvs", archive), 2)

    def test_other_folders_are_passed_over_and_missing_ones_named(self, archive: Path) -> None:
        write(archive / "events_np" / "a.aedat", b"")
        assert load(config("cifar10dvs", archive), 2).num_classes == 10
        with pytest.raises(FileNotFoundError, match=r"has no airplane, ... and truck; set data.download=true"):
            load(config("cifar10dvs", archive / "cat"), 2)

    def test_a_damaged_recording_is_named_when_it_is_read(self, archive: Path) -> None:
        found = load(config("cifar10dvs", archive), 2)
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


class TestDVSGesture:
    def check(self, found: ImageData, unit: int) -> None:
        assert (len(found.train), len(found.test), found.class_names) == (22, 11, CLASSES)
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
        found = load(config("dvsgesture", official_gestures, validation=0), 8)
        self.check(found, 1)
        assert found.train[0][0].shape == (8, 2, 128, 128)
        assert names(found.train)[:2] == ["user01_led.aedat#00", "user01_led.aedat#01"]
        inside = load(config("dvsgesture", official_gestures / "DvsGesture", validation=0), 8)
        assert inside.split == found.split

    def test_tonics_layout(self, tmp_path: Path) -> None:
        for number, name in enumerate(("user01_led", "user02_lab", "user24_led")):
            part = "ibmGestureTest" if number == 2 else "ibmGestureTrain"
            for label, sample in gestures(number):
                array = np.stack([sample.x, sample.y, sample.p, sample.t // 1000], 1).astype(np.uint16)
                path = tmp_path / "DVSGesture" / part / name / f"{label - 1}.npy"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, array.astype(np.int64))
        self.check(load(config("dvsgesture", tmp_path, validation=0), 8), 1000)
        theirs = [events for events, _ in self.tonics(tmp_path)]
        found = load(config("dvsgesture", tmp_path, validation=0), 8).train
        assert isinstance(found, EventImages)
        ours = [recording.read(DVS128) for recording in found.recordings]
        by_start = sorted(ours, key=lambda e: (e.t[0], e.x[0], e.y[0]))
        for events, other in zip(
            by_start, sorted(theirs, key=lambda e: (e["t"][0], e["x"][0], e["y"][0])), strict=True
        ):
            assert Sample(*(other[name] for name in "txyp")).equals(events)

    def tonics(self, root: Path) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tonic.datasets.DVSGesture, "_check_exists", lambda self: True)
            return list(tonic.datasets.DVSGesture(str(root)))

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("user01_led_labels.csv", b"label,from,to\n", "its first line is not class,startTime_usec,endTime_usec"),
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
            load(config("dvsgesture", official_gestures), 4)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)

    def test_a_gesture_without_events_and_a_file_cut_short_are_named(self, official_gestures: Path) -> None:
        path = official_gestures / "DvsGesture" / "user01_led.aedat"
        write(path.with_name("user01_led_labels.csv"), b"class,startTime_usec,endTime_usec\n1,90000000,90000001\n")
        found = load(config("dvsgesture", official_gestures, train_limit=11, validation=0), 4)
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


OWN = EventConfig(sensor=(60, 80), size=30)


class TestEvents:
    def test_class_folders_get_a_seeded_split(self, own: Path) -> None:
        found = load(config("events", own, OWN), 5)
        assert (found.class_names, found.image_size) == (["fall", "jump", "walk"], (30, 40))
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
        found = load(config("events", tmp_path / "split", OWN), 2)
        assert (len(found.train), len(found.validation), len(found.test)) == (30, 3, 3)
        (tmp_path / "split" / "test" / "walk").rename(tmp_path / "split" / "test" / "run")
        with pytest.raises(ValueError, match="test has a class 'run' that train has not"):
            load(config("events", tmp_path / "split", OWN), 2)

    def test_what_is_missing_is_named(self, own: Path) -> None:
        with pytest.raises(ValueError, match=r"data.events.sensor: the camera's height and width are needed"):
            load(config("events", own), 2)
        with pytest.raises(FileNotFoundError, match=r"data.root: there is no folder .*nowhere"):
            load(config("events", own / "nowhere", OWN), 2)
        (own / "empty").mkdir()
        with pytest.raises(FileNotFoundError, match=r"empty has no recordings \(.aedat, .aedat4, .bin, .csv, .dat"):
            load(config("events", own, OWN), 2)
        with pytest.raises(ValueError, match=r"data.events.size: frames cannot be larger than the sensor's 60 pixels"):
            load(config("events", own, EventConfig(sensor=(60, 80), size=61)), 2)


class TestNpz:
    def test_recordings_and_parts(self, tmp_path: Path, data: Data) -> None:
        is_test = np.arange(60) % 3 == 0
        path = write_npz(tmp_path / "set.npz", *data, {"is_test": is_test})
        found = load(config("nmnist_npz", path, validation=0), 6)
        assert (len(found.train), len(found.test), found.num_classes) == (40, 20, 10)
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
            official = load(config("nmnist", tmp_path / "official", validation=0), 6)
        archived = load(config("nmnist_npz", path, validation=0), 6)
        order = np.argsort([int(Path(name).stem) for name in names(official.train)])
        assert torch.equal(official.train.fetch(order), archived.train.fetch(range(40)))

    def test_without_is_test_a_fifth_is_held_out(self, tmp_path: Path, data: Data) -> None:
        path = write_npz(tmp_path / "set.npz", *data, {})
        first, other = (load(config("nmnist_npz", path, seed=seed), 2) for seed in (0, 1))
        assert torch.bincount(first.test.labels).tolist() == [1] * 10
        assert names(first.test) != names(other.test)

    def test_five_folds(self, tmp_path: Path, data: Data) -> None:
        path = write_npz(tmp_path / "set.npz", *data, {"is_test": np.arange(60) >= 55})
        seen = []
        for fold in range(5):
            found = load(config("nmnist_npz", path, EventConfig(folds=5, fold=fold), validation=0), 2)
            assert len(found.test) == 12
            assert set(torch.bincount(found.test.labels).tolist()) <= {1, 2}
            seen += names(found.test)
        assert len(set(seen)) == 60
        with pytest.raises(ValueError, match=r"class '0' has too few samples \(6\) for 7 folds"):
            load(config("nmnist_npz", path, EventConfig(folds=7)), 2)

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
            load(config("nmnist_npz", path, validation=0), 2).train.fetch([0])
        assert "\n" not in str(caught.value)

    def test_a_damaged_archive_is_named(self, tmp_path: Path, data: Data) -> None:
        whole = write_npz(tmp_path / "set.npz", *data, {}).read_bytes()
        for content in (b"", whole[:1000], whole[: len(whole) - 50], b"no archive" * 100):
            path = write(tmp_path / "set.npz", content)
            with pytest.raises(ValueError, match=f"^{path} is not a readable .npz archive of plain arrays: "):
                load(config("nmnist_npz", path), 2)
        with pytest.raises(FileNotFoundError, match=r"data.root: there is no file .*nowhere.npz"):
            load(config("nmnist_npz", tmp_path / "nowhere.npz"), 2)


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


@pytest.mark.filterwarnings("ignore:.* recordings of N-MNIST's")
def test_tonic_downloads_a_set_that_is_missing(
    tmp_path: Path, data: Data, server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = server
    official = write_nmnist(tmp_path / "official", data, 40)
    for part in ("Train", "Test"):
        with zipfile.ZipFile(folder / f"{part.lower()}.zip", "w") as made:
            for path in sorted((official / part).rglob("*.bin")):
                made.write(path, path.relative_to(official))
        content = (folder / f"{part.lower()}.zip").read_bytes()
        monkeypatch.setattr(tonic.datasets.NMNIST, f"{part.lower()}_url", f"{address}/{part.lower()}.zip")
        monkeypatch.setattr(tonic.datasets.NMNIST, f"{part.lower()}_md5", hashlib.md5(content).hexdigest())
    wanted = config("nmnist", tmp_path / "here", download=True, validation=0)
    found = load(wanted, 4)
    assert (len(found.train), len(found.test)) == (40, 20)
    assert [entry.name for entry in (tmp_path / "here").iterdir()] == ["NMNIST"]
    (folder / "train.zip").unlink()
    assert load(wanted, 4).split == found.split

    with pytest.raises(ValueError, match=r"nmnist could not be downloaded to .*there: HTTP Error 404"):
        load(config("nmnist", tmp_path / "there", download=True), 4)
    assert list((tmp_path / "there").iterdir()) == []
    (tmp_path / "there" / "NMNIST").mkdir()
    with pytest.raises(ValueError, match="NMNIST is not a whole nmnist; move it away to download the set"):
        load(config("nmnist", tmp_path / "there", download=True), 4)


def test_the_library_is_there() -> None:
    """These tests need all of the extra `events`."""
    assert importlib.util.find_spec("aedat")


def test_a_sensor_may_be_a_list(tmp_path: Path) -> None:
    for label, name in enumerate(("left", "right")):
        for number in range(4):
            write(tmp_path / name / f"{number}.aedat", aedat2(synthetic(10 * label + number, 300, DVS128)))
    sizes: Any = [128, 128]
    found = load(config("events", tmp_path, EventConfig(sensor=sizes, cache="off"), validation=0), 3)
    assert found.train[0][0].shape == (3, 2, 128, 128)
