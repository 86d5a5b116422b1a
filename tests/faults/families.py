"""The families of faults: for each a strategy that draws one, and a function that tries it in an empty folder.

The function returns what is wrong with the command's answer, or an empty string.
"""

import functools
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hypothesis import strategies as st
from PIL import Image

from .answers import SMALL, run, train
from .strategies import ODD_VALUES, damaged, damages, odd_json

Try = Callable[[Any, Path], str]


@dataclass(frozen=True)
class Family:
    """Faults of one kind.

    Args:
        summary: what the faults are.
        faults: strategy that draws one.
        check: tries one in an empty folder.
    """

    summary: str
    faults: st.SearchStrategy[Any]
    check: Try


FAMILIES: dict[str, Family] = {}


def family(name: str, summary: str, faults: st.SearchStrategy[Any]) -> Callable[[Try], Try]:
    """Register a function as a family."""

    def register(check: Try) -> Try:
        FAMILIES[name] = Family(summary, faults, check)
        return check

    return register


# Recipes

REFUSED_RECIPES = (
    "data: &d {events: *d}", "&x {training: *x}", "a: &a {epochs: 1}\ntraining: {<<: *a}",
    "training: {epochs: 1, epochs: 2}", "training: {epochs: 1}\ntraining: {epochs: 2}", "training: {epochs: 1:30}",
    "training: {epochs: 0o17}", "training: {epochs: 1_000}", "training: {epochs: one}",
    "presets: [vanilla]\nmethod: {taps: blocks}", "training: !!python/object/apply:os.system ['true']",
    "training: {epochs: !!binary aGVsbG8=}", "training: {epochs: 2020-01-01}",
    "training: {epochs: 1}\n---\ntraining: {epochs: 2}", "[" * 5000, "training: " + "{a: " * 2000 + "1" + "}" * 2000,
    "training: {epochs: 1}\x00", "training:\n\t- epochs", "[1, 2]",
)  # fmt: skip
ENTRIES = (
    "data.kind", "data.batch_size", "data.validation", "data.augment", "data.workers", "data.seed", "data.root",
    "network.kind", "network.width", "network.time_steps", "network.stem", "neuron.kind", "neuron.decay",
    "neuron.threshold", "neuron.surrogate", "neuron.surrogate.width", "task.kind", "task.label_smoothing",
    "method.branches", "method.branches.taps", "method.objective", "method.gradient", "method.initialise",
    "optimizer.kind", "optimizer.lr", "optimizer.weight_decay", "lr_schedule.kind", "training.epochs", "training.seed",
    "training.precision", "training.warmup", "training.clip", "training.accumulate", "training.ema_decay",
    "training.accelerator", "training.devices", "training.strategy", "training.threads", "training.checkpoint_every",
    "loggers", "unknown",
)  # fmt: skip


def _recipe(entry: str, value: Any) -> str:
    for part in reversed(entry.split(".")):
        value = {part: value}
    return yaml.safe_dump(value)


@family(
    "recipes",
    "YAML that is hostile, damaged, or has odd values",
    st.sampled_from(REFUSED_RECIPES).map(lambda text: (text.encode(), True))
    | st.builds(_recipe, st.sampled_from(ENTRIES), ODD_VALUES).map(lambda text: (text.encode(), False))
    | damages().map(lambda damage: (damaged(yaml.safe_dump({"training": {"epochs": 1}}).encode(), damage), False)),
)
def check_recipe(fault: tuple[bytes, bool], folder: Path) -> str:
    """Read a recipe without training it."""
    content, must_fail = fault
    (folder / "recipe.yaml").write_bytes(content)
    return run("train", "--config", folder / "recipe.yaml", "--out", folder / "out", "--print-recipe").problem(
        must_fail
    )


# Command lines

COMMANDS = ("train", "compare", "evaluate", "gradients", "energy", "report", "export", "recipes", "trian", "")
WORDS = (
    "--out", "OUT", "FILE", "RUN", "--config", "digits", "digit", "--preset", "vanilla", "--resume", "--seeds", "0",
    "-1", "2", "1e999", "--methods", "vanilla,evolutionary", "--grid", "network.width=0", "network.width=2,4", "=1",
    "--jobs", "--weights", "best", "worst", "--split", "validation", "--set", "data.root=nowhere", "--to", "onnx",
    "pdf", "--import", "nothing.py", "--training.epochs=one", "--network.width", "--data.batch_size=1.5", "", "--",
    "-h", "--version", "--print-recipe", "~nouser/x", "/dev/null", "é" * 3, "x" * 300, "--training.seed=4294967296",
    "--lr", "--method.branches.taps=nowhere", "--neuron={", "--optimizer.kind=magic", "--training=3", "\x1b[31m",
)  # fmt: skip


@family(
    "lines",
    "command lines with options and values that do not fit",
    st.tuples(st.sampled_from(COMMANDS), st.lists(st.sampled_from(WORDS), max_size=6)),
)
def check_line(fault: tuple[str, list[str]], folder: Path) -> str:
    """Run a command line; it may not change the run or the file that it names."""
    command, words = fault
    file, target = folder / "FILE", shutil.copytree(finished_run(), folder / "RUN")
    file.write_text("content")
    network = (target / "network.safetensors").read_bytes()
    paths = {"RUN": str(target), "OUT": str(folder / "out"), "FILE": str(file)}
    words = [paths.get(word, word) for word in words]
    if command in ("train", "compare", "gradients"):
        words += [f"--{key}={value}" for key, value in SMALL.items()]
    problem = run(command, *words).problem()
    if not problem and file.read_text() != "content":
        return "a file was overwritten"
    return problem or ("" if (target / "network.safetensors").read_bytes() == network else "the run was changed")


# Files of a run

RUN_FILES = (
    "result.json", "environment.json", "metrics.csv", "layers.csv", "gradients.csv", "energy.csv", "recipe.yaml",
    "network.safetensors", "checkpoint.ckpt",
)  # fmt: skip


@functools.cache
def finished_run() -> Path:
    """Return the folder of a finished run, trained once."""
    folder = Path(tempfile.mkdtemp(prefix="faults-")) / "run"
    answer = train(folder, {}, "--preset", "evolutionary")
    if answer.status:
        raise RuntimeError(f"the run that is to be damaged failed: {answer.err}")
    return folder


@family(
    "runs",
    "damaged and edited files of a run, for every command that reads one",
    st.tuples(
        st.sampled_from(("evaluate", "report", "export", "energy", "train")),
        st.sampled_from(RUN_FILES),
        st.none() | damages() | st.data(),
    ),
)
def check_run(fault: tuple[str, str, Any], folder: Path) -> str:
    """Damage a file of a run and call a command on the run; a failed command may not change the run."""
    command, name, damage = fault
    target = shutil.copytree(finished_run(), folder / "run")
    path = target / name
    if damage is None:
        path.unlink(missing_ok=True)
    elif isinstance(damage, tuple):
        path.write_bytes(damaged(path.read_bytes() if path.is_file() else b"", damage))
    elif name.endswith(".json"):
        path.write_text(json.dumps(damage.draw(odd_json(json.loads(path.read_text())))))
    before = {file.name: file.read_bytes() for file in target.iterdir() if file.is_file()}
    if command == "train":
        answer = train(target, {}, "--preset", "evolutionary", "--resume")
    else:
        answer = run(command, target, *(("--to", "safetensors") if command == "export" else ()))
    problem = answer.problem(must_fail=command == "evaluate" and name == "network.safetensors" and damage is None)
    changed = [file for file, content in before.items() if (target / file).read_bytes() != content]
    return problem or (f"the command failed, but {changed} changed" if answer.status and changed else "")


# Data

ARRAYS: dict[str, Callable[[Any], Any]] = {
    "missing": lambda array: None,
    "0-dimensional": lambda array: np.array(array.flat[0]),
    "empty": lambda array: array[:0],
    "one": lambda array: array[:1],
    "half": lambda array: array[: len(array) // 2],
    "more axes": lambda array: array[None, None],
    "floats": lambda array: array.astype(np.float64),
    "NaN": lambda array: np.full(array.shape, np.nan, np.float32),
    "negative": lambda array: -np.ones_like(array, dtype=np.int64),
    "text": lambda array: np.array(["x"] * len(array)),
    "objects": lambda array: np.array([{}] * len(array), dtype=object),
    "complex": lambda array: np.ones(array.shape, complex),
    "huge": lambda array: np.full(array.shape, 2**63, np.uint64),
    "records": lambda array: np.zeros(len(array), dtype=[("a", "i4"), ("b", "f4")]),
    "another size": lambda array: array[..., :1],
}
REFUSED_ARRAYS = ("missing", "0-dimensional", "empty", "objects", "complex", "text")


def _train_on(path: Path, kind: str, folder: Path, must_fail: bool = False) -> str:
    changes = {"data.kind": kind, "data.root": path, "data.train_limit": None, "data.test_limit": None}
    return train(folder / "out", changes).problem(must_fail)


@family(
    "npz",
    "archives of images: damaged, or with arrays that do not fit",
    st.tuples(st.sampled_from(("x_train", "y_train", "x_test", "y_test")), st.sampled_from(sorted(ARRAYS))) | damages(),
)
def check_archive(fault: Any, folder: Path) -> str:
    """Train on an archive of images."""
    pixels, labels = np.random.default_rng(0).integers(0, 255, (40, 8, 8), dtype=np.uint8), np.arange(40) % 2
    arrays: dict[str, Any] = {"x_train": pixels, "y_train": labels, "x_test": pixels[:20], "y_test": labels[:20]}
    path = folder / "data.npz"
    if len(fault) == 2:
        key, change = fault
        arrays[key] = ARRAYS[change](arrays[key])
        np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
        return _train_on(path, "npz", folder, must_fail=change in REFUSED_ARRAYS)
    np.savez(path, **arrays)
    path.write_bytes(damaged(path.read_bytes(), fault))
    return _train_on(path, "npz", folder)


@family(
    "images",
    "folders of images: odd sizes, modes and names, damaged files, links",
    st.lists(
        st.tuples(
            st.sampled_from(("a", "b", "c d", "é", ".hidden")),
            st.sampled_from(("1", "L", "P", "RGB", "RGBA", "I;16", "link", "folder")),
            st.tuples(st.sampled_from((1, 7, 8, 300)), st.sampled_from((1, 8, 9))),
            st.none() | damages(),
        ),
        max_size=12,
    ),
)
def check_images(fault: list[tuple[str, str, tuple[int, int], Any]], folder: Path) -> str:
    """Train on a folder of images."""
    root = folder / "images"
    root.mkdir()
    for number, (label, mode, size, damage) in enumerate(fault):
        path = root / label / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        if mode == "link":
            path.symlink_to(root)
        elif mode == "folder":
            path.mkdir()
        else:
            Image.new(mode, size).save(path)
            if damage is not None:
                path.write_bytes(damaged(path.read_bytes(), damage))
    return _train_on(root, "folder", folder)


TIMES = st.sampled_from((2**63 - 1, -(2**63), -1, 0, 2**53)) | st.integers(0, 10_000)


@family(
    "events",
    "event recordings in NumPy files: odd times and addresses, damaged files",
    st.lists(
        st.tuples(
            st.sampled_from(("a", "b")),
            st.lists(st.tuples(TIMES, st.integers(-1, 40), st.integers(-1, 40), st.integers(-1, 2)), max_size=20),
            st.none() | damages(),
        ),
        max_size=8,
    ),
)
def check_events(fault: list[tuple[str, list[tuple[int, int, int, int]], Any]], folder: Path) -> str:
    """Train on a folder of event recordings."""
    root = folder / "events"
    root.mkdir()
    for number, (label, events, damage) in enumerate(fault):
        path = root / label / f"{number}.npy"
        path.parent.mkdir(exist_ok=True)
        np.save(path, np.array(events, dtype=[("t", "i8"), ("x", "i8"), ("y", "i8"), ("p", "i8")]))
        if damage is not None:
            path.write_bytes(damaged(path.read_bytes(), damage))
    return _train_on(root, "events", folder)
