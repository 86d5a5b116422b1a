"""Folders of images, and CIFAR's files, with all that a disk full of other people's data holds."""

import os
import pickle
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..bench import Bench, words
from ..case import Case
from ..damage import damaged

BEFORE = (723, 6)


def cases(chance: random.Random) -> Iterator[Case]:
    """Yield folders whose tree, files or pixels are odd, and CIFAR pickles, without end."""
    while True:
        seed, what = chance.randrange(2**32), chance.choice(("tree", "bytes", "bytes", "picture", "cifar"))
        yield Case(f"{what} {seed}", partial(_try, what, seed))


def _image(path: Path, size: tuple[int, int] = (8, 8), mode: str = "RGB", value: int = 100, **how: Any) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode in ("L", "I", "F", "P", "1") else (value, 7, 99, 30)[: len(mode)]).save(
        path, **how
    )


def _images(root: Path, classes: str = "ab", each: int = 10) -> None:
    for index, name in enumerate(classes):
        for number in range(each):
            _image(root / name / f"{number}.png", value=20 * number + index)


def _loop(root: Path) -> None:
    _images(root)
    (root / "a" / "l1").symlink_to(".")
    (root / "a" / "l2").symlink_to(".")


def _up(root: Path) -> None:
    _images(root)
    (root / "a" / "up").symlink_to("..")


def _across(root: Path) -> None:
    _images(root)
    (root / "b" / "more").symlink_to(root / "a")


def _same_parts(root: Path) -> None:
    _images(root / "train")
    (root / "test").symlink_to(root / "train")


def _dangling(root: Path) -> None:
    _images(root)
    (root / "a" / "gone.png").symlink_to("/nowhere.png")


def _fifo(root: Path) -> None:
    _images(root)
    os.mkfifo(root / "a" / "pipe.png")


def _folder_png(root: Path) -> None:
    _images(root)
    (root / "a" / "folder.png").mkdir()


def _names(root: Path) -> None:
    _images(root)
    for name in ("é", "a b", "\U0001f600", 'quote"', "new\nline", "x" * 200):
        _image(root / "a" / f"{name}.png")
    _image(root / os.fsdecode(b"c\xff") / "0.png")
    for number in range(9):
        _image(root / os.fsdecode(b"c\xff") / f"{number}.png")


def _unreadable(root: Path) -> None:
    _images(root)
    _image(root / "a" / "big.png", (2000, 2000))


TREES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "links that loop": (_loop, "refuse"),
    "a link up": (_up, "refuse"),
    "a link across": (_across, "refuse"),
    "test is train": (_same_parts, "refuse"),
    "a dangling link": (_dangling, "refuse"),
    "a pipe": (_fifo, "either"),
    "a folder called .png": (_folder_png, "either"),
    "names": (_names, "either"),
    "one large image": (_unreadable, "refuse"),
    "one class": (lambda root: _images(root, "a"), "refuse"),
    "one image each": (lambda root: _images(root, each=1), "refuse"),
    "nothing": (lambda root: root.mkdir(), "refuse"),
    "a file": (lambda root: root.write_text("x"), "refuse"),
    "train alone": (lambda root: _images(root / "train"), "refuse"),
    "other classes": (lambda root: (_images(root / "train"), _images(root / "test", "ac")), "refuse"),
}
PICTURES: tuple[dict[str, Any], ...] = (
    {"mode": "L"}, {"mode": "1"}, {"mode": "P"}, {"mode": "RGBA"}, {"mode": "I", "value": 70000}, {"size": (1, 1)},
    {"size": (9, 8)}, {"size": (8, 5000)}, {"name": "x.jpg"}, {"name": "x.JPEG", "mode": "CMYK"}, {"name": "x.webp"},
    {"name": "x.gif"}, {"name": "x.bmp"}, {"name": "x.tiff"}, {"name": "x.jpg", "quality": 1}, {"name": "x.png.txt"},
    {"name": ".x.png"}, {"name": "x.jpg", "progressive": True}, {"name": "x.gif", "save_all": True},
)  # fmt: skip


def _try(what: str, seed: int, bench: Bench) -> str:
    chance, root, must, how = random.Random(seed), bench.folder / "data", "either", what
    changes: dict[str, Any] = {"data.kind": "folder", "data.image_size": chance.choice((None, 8))}
    if what == "tree":
        how, (make, must) = chance.choice(list(TREES.items()))
        make(root)
        must = "either" if how == "one large image" and changes["data.image_size"] else must
    elif what == "cifar":
        how, must, changes = _cifar(chance, root), "either", {"data.kind": "cifar10", "data.augment": "[]"}
    else:
        _images(root)
        path = root / "a" / f"{chance.randrange(10)}.png"
        if what == "bytes":
            how, content = damaged(chance, path.read_bytes())
            path.write_bytes(content)
        else:
            given = dict(chance.choice(PICTURES))
            how = str(given)
            name = given.pop("name", "x.png")
            try:
                _image(root / "a" / name, **{"format": "PNG"} | given if name == "x.png.txt" else given)
            except (OSError, KeyError, ValueError):
                return ""
    changes |= {"data.root": root, "data.train_limit": None, "data.test_limit": None, "training.epochs": 1}
    answer = bench.run("train", "--out", bench.folder / "out", *words(changes), limit=60)
    found = answer.wrong(must)
    if not found and answer.status == 1 and "data" not in answer.line:
        found = f"the file is not named: {answer.line[:100]}"
    return f"{how}: {found}" if found else ""


def _cifar(chance: random.Random, root: Path) -> str:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    pixels = np.zeros((10, 3072), np.uint8)
    for name in names:
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": list(range(10))}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    labels: list[Any] = list(range(10))
    columns = np.asfortranarray(pixels + np.arange(3072, dtype=np.uint8))
    odd: list[Any] = [
        *({"data": pixels, "labels": [label] * 10} for label in ([0], {}, None, 0.5, True, "0", 2**70)),
        *({"data": data, "labels": labels} for data in (pixels[:5], pixels.astype(float), "x" * 30720, columns, None)),
        {"data": pixels[:0], "labels": []}, {"data": pixels, "labels": np.arange(10)}, {b"data": pixels},
        {"data": pixels.reshape(10, 3, 32, 32), "labels": labels}, {"data": os.system, "labels": []}, {}, [], None, 3,
    ]  # fmt: skip
    path = folder / chance.choice((*names, "batches.meta"))
    if chance.random() < 0.5:
        content = chance.choice(odd)
        path.write_bytes(pickle.dumps(content, protocol=chance.choice((2, 4, 5))))
        return f"{path.name}: {content!s:.40}"
    how, mutated = damaged(chance, path.read_bytes())
    path.write_bytes(mutated)
    return f"{path.name} {how}"
