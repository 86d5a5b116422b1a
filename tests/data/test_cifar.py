import hashlib
import pickle
import tarfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from torchvision import datasets

from shortcut_snn.data import CIFAR10, CIFAR100
from shortcut_snn.data.images.cifar import _read_dict as read_pickle

from .files import NAMES, python2_pickle, write_cifar10, write_cifar100

Colour = tuple[np.ndarray, np.ndarray]


def config(root: Path, **fields: Any) -> CIFAR10:
    return CIFAR10(root, **{"validation": 0, **fields})


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def official(base: type[datasets.CIFAR10], folder: Path, **more: str) -> type[datasets.CIFAR10]:
    """torchvision's class, its checksums those of the files in ``folder``."""
    lists = {
        name: [[file, md5(folder / file)] for file, _ in getattr(base, name)] for name in ("train_list", "test_list")
    }
    meta = {**base.meta, "md5": md5(folder / base.meta["filename"])}
    return type("Official", (base,), {**lists, "meta": meta, **more})


def test_cifar10(colour: Colour, tmp_path: Path) -> None:
    images, labels = colour
    folder = write_cifar10(tmp_path, images, labels, 20)
    data = config(tmp_path).load()
    assert (len(data.train), len(data.test), data.classes) == (100, 20, NAMES)
    assert (data.train.fetch(range(100)).numpy() == images[:100].transpose(0, 3, 1, 2)).all()
    assert (data.test.fetch(range(20)).numpy() == images[100:120].transpose(0, 3, 1, 2)).all()
    assert data.train.labels.tolist() == labels[:100].tolist()
    assert (data.train.shape, data.mean[0]) == ((3, 32, 32), 0.4914)
    # The files are of the official layout: torchvision's own loader reads the same from them.
    theirs = official(datasets.CIFAR10, folder)(tmp_path, train=True)
    assert (theirs.data == images[:100]).all()
    assert theirs.targets == data.train.labels.tolist()
    assert theirs.classes == data.classes


def test_cifar100(colour: Colour, tmp_path: Path) -> None:
    images, labels = colour[0][:300], np.arange(300) % 100
    folder = write_cifar100(tmp_path, images, labels, 100)
    data = CIFAR100(tmp_path, validation=0.5).load()
    assert (len(data.train), len(data.validation), len(data.test)) == (100, 100, 100)
    assert data.classes[99] == "fine_99"
    assert (data.test.fetch(range(100)).numpy() == images[200:].transpose(0, 3, 1, 2)).all()
    assert data.mean[0] == 0.5071
    theirs = official(datasets.CIFAR100, folder)(tmp_path, train=False)
    assert (theirs.data == images[200:]).all()
    assert theirs.targets == data.test.labels.tolist()


def test_a_batch_pickled_by_python_3_is_read_too(colour: Colour, tmp_path: Path) -> None:
    images, labels = colour
    path = write_cifar10(tmp_path, images, labels, 20) / "data_batch_3"
    path.write_bytes(pickle.dumps(pickle.loads(path.read_bytes(), encoding="latin1"), protocol=4))
    assert (config(tmp_path).load().train.fetch([45])[0].numpy() == images[45].transpose(2, 0, 1)).all()


def test_missing_files_say_which_and_what_to_do(colour: Colour, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data_batch_1 is missing; set data.download=true to download cifar10"):
        config(tmp_path / "nowhere").load()
    folder = write_cifar10(tmp_path, *colour, 20)
    (folder / "batches.meta").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"batches.meta is missing; .* the folder that holds cifar-10-batches-py"
    ):
        config(tmp_path).load()


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
def test_a_file_cut_anywhere_is_refused_by_name(colour: Colour, tmp_path: Path, name: str) -> None:
    path = write_cifar10(tmp_path, *colour, 10) / name
    whole = path.read_bytes()
    for length in [0, 1, 2, 3, *range(5, len(whole), len(whole) // 15 + 1), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=f"^{path} is cut short, damaged .*; delete it and download") as caught:
            config(tmp_path).load()
        assert "\n" not in str(caught.value)


class Malice:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def test_code_in_a_file_is_not_run(colour: Colour, tmp_path: Path) -> None:
    path = write_cifar10(tmp_path, *colour, 10) / "data_batch_1"
    path.write_bytes(pickle.dumps({"data": Malice(tmp_path / "owned"), "labels": []}))
    with pytest.raises(ValueError, match=r"data_batch_1 is cut short, damaged or not plain data \(it asks for"):
        config(tmp_path).load()
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_is_not_run_in_any_protocol(tmp_path: Path, protocol: int) -> None:
    path, target = tmp_path / "malice", tmp_path / "owned"
    path.write_bytes(pickle.dumps({"data": Malice(target)}, protocol))
    with pytest.raises(ValueError, match=r"malice is cut short, damaged or not plain data \(it asks for"):
        read_pickle(path)
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"data": np.zeros(3)}, "it holds an array that is not uint8, row by row"),
        ({"data": np.zeros((3, 2), np.uint8, order="F")}, "it holds an array that is not uint8, row by row"),
        ({"data": np.array([None])}, "it holds an array that is not uint8, row by row"),
        ({"data": {1, 2}, "more": 1 + 2j}, "it asks for builtins.complex"),
    ],
)
def test_other_data_is_refused(tmp_path: Path, content: object, reason: str) -> None:
    path = tmp_path / "other"
    path.write_bytes(pickle.dumps(content, protocol=4))
    with pytest.raises(ValueError, match=reason):
        read_pickle(path)


def test_any_damage_is_refused_in_one_line_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    whole = python2_pickle({"labels": [1, 2], "data": np.arange(600, dtype=np.uint8).reshape(2, 300)})
    for place in range(len(whole)):
        for change in (0x01, 0x10, 0xFF):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
            try:
                content = read_pickle(path)
            except ValueError as error:
                message = str(error)
                assert message.startswith(str(path))
                assert "\n" not in message
            else:
                assert all(not isinstance(value, np.ndarray) or value.dtype == np.uint8 for value in content.values())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], r"test_batch is cut short, damaged or not plain data \(it holds no dictionary\)"),
        ({"labels": [1]}, r"test_batch is not a CIFAR batch: its 'data' is not uint8 \[n, 3072\]"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, "its 'labels' are not 2 labels from 0 to 9"),
        ({"data": np.zeros((2, 3072), np.uint8), "fine_labels": [1, 2]}, "its 'labels' are not 2 labels from 0 to 9"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1, 10]}, "its 'labels' are not 2 labels from 0 to 9"),
        ({"data": np.zeros((2, 3071), np.uint8), "labels": [1, 2]}, r"its 'data' is not uint8 \[n, 3072\]"),
    ],
)
def test_other_content_is_refused_by_name(colour: Colour, tmp_path: Path, content: object, message: str) -> None:
    folder = write_cifar10(tmp_path, *colour, 10)
    (folder / "test_batch").write_bytes(python2_pickle(content))
    with pytest.raises(ValueError, match=message):
        config(tmp_path).load()


def test_a_description_without_names_is_refused(colour: Colour, tmp_path: Path) -> None:
    folder = write_cifar10(tmp_path, *colour, 10)
    (folder / "batches.meta").write_bytes(python2_pickle({"fine_label_names": NAMES}))
    with pytest.raises(ValueError, match=r"batches.meta is not a CIFAR description: it has no list of label_names"):
        config(tmp_path).load()


def test_a_full_batch_must_be_the_official_one(colour: Colour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_cifar10(tmp_path, *colour, 20)
    source = official(datasets.CIFAR10, folder)
    monkeypatch.setattr(CIFAR10, "official", staticmethod(lambda: source))
    monkeypatch.setattr(CIFAR10, "official_batch", 20)
    assert len(config(tmp_path).load().train) == 100
    path = folder / "data_batch_4"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="data_batch_4 is damaged: its checksum is not the official one; delete it"):
        config(tmp_path).load()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def archive(colour: Colour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small CIFAR-10 to download, packed as the official one is, from a server on this machine."""
    folder = write_cifar10(tmp_path / "server", *colour, 20)
    path = tmp_path / "server" / datasets.CIFAR10.filename
    with tarfile.open(path, "w:gz") as file:
        file.add(folder, folder.name)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=path.parent)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{path.name}"
        source = official(datasets.CIFAR10, folder, url=url, tgz_md5=md5(path))
        monkeypatch.setattr(CIFAR10, "official", staticmethod(lambda: source))
        yield path
        server.shutdown()


def test_download_happens_once_and_leaves_the_files_alone(archive: Path, tmp_path: Path) -> None:
    root = tmp_path / "new" / "place"
    assert len(config(root, download=True).load().train) == 100
    assert [path.name for path in root.iterdir()] == ["cifar-10-batches-py"]
    archive.unlink()
    assert len(config(root, download=True).load().train) == 100
    assert len(config(root).load().train) == 100


def test_download_completes_an_incomplete_folder(archive: Path, tmp_path: Path) -> None:
    root = tmp_path / "place"
    config(root, download=True).load()
    (root / "cifar-10-batches-py" / "data_batch_5").unlink()
    assert len(config(root, download=True).load().train) == 100


def test_a_download_that_fails_leaves_nothing(archive: Path, tmp_path: Path) -> None:
    root = tmp_path / "place"
    archive.write_bytes(archive.read_bytes()[:1000])
    with pytest.raises(
        ValueError, match=r"cifar-10-python.tar.gz could not be downloaded to .*place: File not found or"
    ):
        config(root, download=True).load()
    archive.unlink()
    with pytest.raises(ValueError, match=r"could not be downloaded to .*place: HTTP Error 404"):
        config(root, download=True).load()
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("label", [[0], {}, 0.0, True, "0", None])
def test_labels_that_are_no_numbers(colour: Colour, tmp_path: Path, label: object) -> None:
    folder = write_cifar10(tmp_path, *colour, per_batch=10)
    content = {"data": np.zeros((10, 3072), np.uint8), "labels": [label] * 10}
    (folder / "data_batch_2").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match="data_batch_2 is not a CIFAR batch: its 'labels' are not 10 labels"):
        config(tmp_path).load()
