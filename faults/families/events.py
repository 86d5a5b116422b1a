"""Recordings of events: archives, arrays and lists that are damaged or say what cannot be."""

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..bench import Bench, words
from ..case import Case
from ..damage import damaged

BEFORE = (296, 4)


def cases(chance: random.Random) -> Iterator[Case]:
    """Yield sets of recordings without end."""
    while True:
        seed, kind = chance.randrange(2**32), chance.choice(("nmnist_npz", "events", "events", "dvsgesture"))
        yield Case(f"{kind} {seed}", partial(_try, kind, seed))


ODD_TIMES: tuple[Any, ...] = (2**63 - 1, -(2**63), 2**64 - 1, -1, 2**53, float("nan"), float("inf"), 1e300)


def _array(chance: np.random.Generator, count: int = 50) -> np.ndarray[Any, Any]:
    found = np.zeros(count, dtype=[("t", "i8"), ("x", "i8"), ("y", "i8"), ("p", "i8")])
    found["t"] = np.sort(chance.integers(0, 10_000, count))
    found["x"], found["y"], found["p"] = (chance.integers(0, most, count) for most in (9, 9, 2))
    return found


def _odd(chance: random.Random, array: np.ndarray[Any, Any]) -> tuple[str, np.ndarray[Any, Any]]:
    way = chance.choice(("time", "time", "place", "axes", "type", "empty", "backwards", "text", "few"))
    if way == "time":
        value = chance.choice(ODD_TIMES)
        kind = "f8" if isinstance(value, float) else "u8" if value > 2**63 - 1 else "i8"
        times = array["t"].astype(kind)
        times[-1 if chance.random() < 0.7 else 0] = value
        made = np.zeros(len(array), dtype=[("t", kind), *array.dtype.descr[1:]])
        for name in ("x", "y", "p"):
            made[name] = array[name]
        made["t"] = times
        return f"t = {value}", made
    if way == "place":
        array[chance.choice("xyp")][0] = chance.choice((-1, 9, 2**40, 255))
    elif way == "axes":
        return way, np.stack([array["t"], array["x"], array["y"], array["p"]], 1)[:, : chance.choice((1, 3, 4))]
    elif way == "type":
        return way, np.array([{}] * 3, dtype=object) if chance.random() < 0.5 else np.zeros(3)
    elif way == "empty":
        array = array[:0]
    elif way == "backwards":
        array["t"] = array["t"][::-1].copy()
    elif way == "text":
        return way, np.array(["a", "b"])
    else:
        array = array[:1]
    return way, array


def _try(kind: str, seed: int, bench: Bench) -> str:
    chance, root = random.Random(seed), bench.folder / "data"
    root.mkdir()
    changes: dict[str, Any] = {"data.kind": kind, "data.cache": "off", "network.time_steps": chance.choice((2, 8))}
    how = {"nmnist_npz": _archive, "events": _folder, "dvsgesture": _gestures}[kind](chance, root)
    changes["data.root"] = root / "data.npz" if kind == "nmnist_npz" else root
    if kind == "events":
        changes["data.sensor"] = "[9, 9]"
    elif kind == "dvsgesture":
        changes |= {"data.size": 8}
    else:
        changes |= {"data.size": 8}
    changes |= {"data.train_limit": None, "data.test_limit": None, "training.epochs": 1}
    answer = bench.run("train", "--out", bench.folder / "out", *words(changes), limit=60)
    found = answer.wrong()
    if not found and answer.status == 1 and "data" not in answer.line:
        found = f"the file is not named: {answer.line[:100]}"
    return f"{how}: {found}" if found else ""


def _archive(chance: random.Random, root: Path) -> str:
    generator, count, each = np.random.default_rng(0), 24, 20
    arrays: dict[str, Any] = {
        "x": generator.integers(0, 34, count * each).astype(np.uint8),
        "y": generator.integers(0, 34, count * each).astype(np.uint8),
        "p": generator.integers(0, 2, count * each).astype(np.uint8),
        "t": np.sort(generator.integers(0, 1000, (count, each)), axis=1).reshape(-1).astype(np.uint32),
        "offsets": np.arange(count + 1) * each,
        "labels": np.arange(count) % 2,
        "is_test": np.arange(count) >= 16,
    }
    path, how = root / "data.npz", "bytes"
    if chance.random() < 0.6:
        key = chance.choice(list(arrays))
        array = arrays[key]
        changes: dict[str, Any] = {
            "missing": None, "short": array[:-1], "0-dimensional": np.array(1), "floats": array.astype(float),
            "negative": -np.ones_like(array, np.int64), "huge": np.full(len(array), 2**63 + 5, np.uint64),
            "words": np.array(["x"] * len(array)), "backwards": array[::-1], "empty": array[:0],
            "two axes": array[None], "objects": np.array([{}] * len(array)), "big": np.full(len(array), 2**40),
        }  # fmt: skip
        what = chance.choice(list(changes))
        how = f"{key} {what}"
        if changes[what] is None:
            del arrays[key]
        else:
            arrays[key] = changes[what]
        np.savez(path, **arrays)
    else:
        np.savez(path, **arrays)
        way, content = damaged(chance, path.read_bytes())
        how = f"bytes {way}"
        path.write_bytes(content)
    return how


def _folder(chance: random.Random, root: Path) -> str:
    generator = np.random.default_rng(0)
    for name in "ab":
        (root / name).mkdir()
        for number in range(8):
            np.save(root / name / f"{number}.npy", _array(generator))
    path = root / "a" / f"{chance.randrange(8)}.npy"
    if chance.random() < 0.6:
        how, array = _odd(chance, np.load(path))
        np.save(path, array)
        return how
    way, content = damaged(chance, path.read_bytes())
    if chance.random() < 0.4:
        path.unlink()
        path = path.with_suffix(chance.choice((".aedat", ".aedat4", ".bin", ".npz", ".mat", ".txt")))
    path.write_bytes(content)
    return f"{path.name} {way}"


def _gestures(chance: random.Random, root: Path) -> str:
    header = "class,startTime_usec,endTime_usec\n"
    rows = ["1,10,20", "2,30,40"]
    for part, user in (("train", "user01"), ("test", "user02")):
        (root / f"trials_to_{part}.txt").write_text(f"{user}.aedat\n")
        (root / f"{user}.aedat").write_bytes(b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + bytes(28))
        (root / f"{user}_labels.csv").write_text(header + "\n".join(rows) + "\n")
    path = root / chance.choice(("user01_labels.csv", "trials_to_train.txt", "user01.aedat"))
    odd = [
        header + "1" * 200_000 + ",1,2\n", header + "0,1,2\n", header + "1,2\n", header + "1,5,2\n", header + "a,b,c\n",
        header + "1," + "9" * 30 + "," + "9" * 31 + "\n", "class\n", '"', header + '"1,2,3\n' * 5, "\udcff", "",
        "../../etc/passwd\n", "/etc/passwd\n", "x" * 5000 + "\n", "\x00\n", "user01.aedat\nuser01.aedat\n",
    ]  # fmt: skip
    if chance.random() < 0.6:
        text = chance.choice(odd)
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        return f"{path.name} = {text[-40:]!r}"
    way, content = damaged(chance, path.read_bytes())
    path.write_bytes(content)
    return f"{path.name} {way}"
