"""Command lines that a tired person types."""

import random
from collections.abc import Iterator
from functools import partial

from ..bench import Bench
from ..case import Case

BEFORE = (183, 3)
FIRST = (
    "train",
    "compare",
    "evaluate",
    "gradients",
    "energy",
    "report",
    "export",
    "recipes",
    "components",
    "trian",
    "",
)
WORDS = (
    "--out", "OUT", "FILE", "RUN", "--config", "digits", "digit", "--preset", "vanilla", "--resume", "--seeds", "0",
    "-1", "2", "1e999", "--methods", "vanilla,evolutionary",
    "evolutionary method.branches.schedule.initial=-1", "--grid",
    "network.width=0", "network.width=2,4", "method.name=vanilla,tet", "=1", "method.kind=a,b", "--jobs", "--weights",
    "best", "worst", "--split", "validation", "--set", "data.root=nowhere", "x", "--to", "onnx", "pdf", "--import",
    "nothing.py", "FILE", "--training.epochs", "1", "--training.epochs=one", "--network.width", "--data.batch_size=1.5",
    "--run", "", "--", "-h", "--help", "--version", "--print-recipe", "~nouser/x", "/dev/null", "é" * 3,
    "\udcff", "x" * 300, "--training.seed=4294967296", "--training.lr=1", "--lr", "0.1",
    "--method.branches.taps=nowhere", "--neuron={", "--neuron=[1]", "--optimizer.kind=magic",
    "--training=3", "\x1b[31m",
)  # fmt: skip


def cases(chance: random.Random) -> Iterator[Case]:
    """Yield command lines without end."""
    while True:
        words = [chance.choice(FIRST), *(chance.choice(WORDS) for _ in range(chance.randrange(7)))]
        yield Case(repr(" ".join(words))[:120], partial(_try, words))


def _try(words: list[str], bench: Bench) -> str:
    (bench.folder / "FILE").write_text("kept")
    places = {"RUN": str(bench.template("whole")), "OUT": str(bench.folder / "out"), "FILE": str(bench.folder / "FILE")}
    given = [places.get(word, word) for word in words]
    if words[0] in ("train", "compare", "gradients") and "-h" not in words:
        # Whatever is understood is small.
        given += ["--data.train_limit=40", "--data.test_limit=20", "--training.epochs=1", "--network.width=2",
                  "--network.kind=vgg11", "--network.time_steps=1", "--training.threads=1"]  # fmt: skip
    before = {
        path.name: path.read_bytes() for path in bench.template("whole").iterdir() if path.suffix == ".safetensors"
    }
    found = bench.run(*given, limit=200).wrong()
    after = {
        path.name: path.read_bytes() for path in bench.template("whole").iterdir() if path.suffix == ".safetensors"
    }
    if not found and (bench.folder / "FILE").read_text() != "kept":
        found = "a file was overwritten"
    return found or ("the run was changed" if before != after else "")
