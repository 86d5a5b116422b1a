"""Archives of images, damaged or of arrays that do not fit."""

import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..bench import Bench, words
from ..case import Case
from ..damage import damaged

BEFORE = (166, 3)
KEYS = ("x_train", "y_train", "x_test", "y_test", "class_names")


def _whole() -> dict[str, Any]:
    chance = np.random.default_rng(0)
    pixels = chance.integers(0, 255, (40, 8, 8), dtype=np.uint8)
    labels = np.arange(40) % 2
    return {"x_train": pixels, "y_train": labels, "x_test": pixels[:20], "y_test": labels[:20]}


def cases(chance: random.Random) -> Iterator[Case]:
    """Yield archives without end."""
    while True:
        seed = chance.randrange(2**32)
        yield Case(f"{seed}", partial(_try, seed))


def _try(seed: int, bench: Bench) -> str:
    chance, path, arrays = random.Random(seed), bench.folder / "data.npz", _whole()
    how, must = "bytes", "either"
    if chance.random() < 0.7:
        key = chance.choice(KEYS)
        array = arrays.get(key, np.array(["a", "b"]))
        changes: dict[str, Any] = {
            "missing": None,
            "0-dimensional": np.array(array.flat[0]),
            "empty": array[:0],
            "one": array[:1],
            "more axes": array[None, None],
            "floats": array.astype(np.float64) if array.dtype.kind != "U" else np.ones(2),
            "negative": -np.ones_like(array, dtype=np.int64) if array.dtype.kind != "U" else np.array([-1]),
            "words": np.array(["x"] * len(array)),
            "bytes": np.array([b"x"] * len(array)),
            "NaN": np.full(array.shape, np.nan, np.float32),
            "objects": np.array([{}] * len(array), dtype=object),
            "complex": np.ones(array.shape, complex),
            "huge": np.full(array.shape, 2**63, np.uint64),
            "truths": np.ones(array.shape, bool),
            "records": np.zeros(len(array), dtype=[("a", "i4"), ("b", "f4")]),
            "dates": np.zeros(len(array), "datetime64[s]"),
            "another size": array[..., :1],
            "twice": np.array(["a", "a"]),
            "one text": np.array("ab"),
            "wide": np.zeros((len(array), 8, 8, 3), np.uint8),
            "half": array[: len(array) // 2],
            "wide characters": np.array(["\ud800" if chance.random() < 0.1 else "é\n"] * 2),
        }
        how = chance.choice(list(changes))
        if changes[how] is None:
            arrays.pop(key, None)
        else:
            arrays[key] = changes[how]
        must = "refuse" if (key, how) in _REFUSED else must
        how = f"{key} {how}"
        np.savez(path, **arrays)
    else:
        np.savez(path, **arrays)
        how, content = damaged(chance, path.read_bytes())
        path.write_bytes(content)
    changes = {
        "data.kind": "npz",
        "data.root": path,
        "training.epochs": 1,
        "data.train_limit": None,
        "data.test_limit": None,
    }
    answer = bench.run("train", "--out", bench.folder / "out", *words(changes))
    found = answer.wrong(must)
    if not found and answer.status == 1 and "data.npz" not in answer.line and "class" not in answer.line:
        found = f"the file is not named: {answer.line[:100]}"
    return f"{how}: {found}" if found else ""


_REFUSED = {
    *((key, how) for key in KEYS[:4] for how in ("missing", "0-dimensional", "empty", "objects", "complex", "words")),
    ("class_names", "twice"), ("class_names", "one text"), ("class_names", "0-dimensional"),
}  # fmt: skip
