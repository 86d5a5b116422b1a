"""Numbers at their ends: what is written is finite, or the run says why it stopped."""

import itertools
import random
from collections.abc import Iterator
from functools import partial
from typing import Any

from ..bench import Bench, words
from ..case import Case

BEFORE = (67, 5)
ALWAYS: dict[str, tuple[dict[str, Any], str]] = {
    "lr 1e38": ({"optimizer.lr": 1e38}, "either"),
    "lr 1e38, SGD": ({"optimizer.kind": "sgd", "optimizer.lr": 1e38}, "either"),
    "lr 1e30, SGD, skipped": ({"optimizer.kind": "sgd", "optimizer.lr": 1e30, "training.non_finite": "skip"}, "either"),
    "lr 1e400": ({"optimizer.lr": "1e400"}, "either"),
    "fp16 on a CPU": ({"training.precision": "fp16", "training.accelerator": "cpu"}, "refuse"),
    "bf16": ({"training.precision": "bf16"}, "work"),
    "batches of 1": ({"data.batch_size": 1, "data.train_limit": 10, "training.epochs": 1}, "either"),
    "a last batch of 1": ({"data.batch_size": 5, "data.train_limit": 23, "training.epochs": 1}, "work"),
    "64 steps": ({"network.time_steps": 64, "training.epochs": 1}, "work"),
}
ENDS: dict[str, tuple[Any, ...]] = {
    "optimizer.kind": ("sgd", "adam", "adamw", "rmsprop", "adagrad"),
    "optimizer.lr": (0, 1e-300, 1e-30, 0.1, 1e3, 1e10, 1e30, 3e38, 1e200),
    "optimizer.weight_decay": (0, 1e-300, 1, 1e10, 1e38),
    "neuron.threshold": (1e-300, 1e-30, 1e30, 1e38, 1e300),
    "neuron.decay": (1e-30, 0.5, 1.0),
    "neuron.kind": ("lif", "if", "plif"),
    "neuron.surrogate.kind": ("triangle", "rectangle", "sigmoid", "atan"),
    "neuron.surrogate.width": (1e-300, 1e-30, 1e30, 1e38),
    "training.clip": (1e-300, 1e300),
    "training.average": (1e-300, 0.5, 0.999999),
    "training.precision": ("fp32", "bf16"),
    "training.non_finite": ("stop", "skip"),
    "training.silent_layers": ("warn", "stop", "ignore"),
    "training.warmup": (0.0, 0.99),
    "training.accumulate": (1, 3, 1000),
    "method.calibrate": ("true",),
    "task.label_smoothing": (0, 0.999),
    "network.time_steps": (1, 3, 16),
    "data.batch_size": (1, 7, 40, 10_000),
}


def cases(chance: random.Random) -> Iterator[Case]:
    """Yield what is known to be hard, then ends of two or three ranges at once, without end."""
    for name, (changes, must) in ALWAYS.items():
        yield Case(name, partial(_try, changes, must))
    for _ in itertools.count():
        keys = chance.sample(list(ENDS), chance.choice((1, 2, 3)))
        changes = {key: chance.choice(ENDS[key]) for key in keys}
        yield Case(" ".join(f"{key}={value}" for key, value in changes.items()), partial(_try, changes, "either"))


def _try(changes: dict[str, Any], must: str, bench: Bench) -> str:
    out = bench.folder / "out"
    answer = bench.run("train", "--out", out, *words({"training.epochs": 1} | changes), limit=200)
    found = answer.wrong(must)
    if found:
        return found
    import torch

    from shortcut_snn.deploy import read_network

    for name in ("network.safetensors", "best.safetensors"):
        if (out / name).is_file():
            bad = [key for key, value in read_network(out / name)[0].items() if not torch.isfinite(value).all()]
            if bad:
                return f"{name} holds what is not finite: {bad[:2]}"
    return ""
