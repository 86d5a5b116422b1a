"""A run small enough for a test: real digits, a thin ResNet-20, two time steps."""

from pathlib import Path

from shortcut_snn.cli import main

OPTIONS = {
    "data.name": "digits",
    "data.batch_size": "50",
    "data.train_limit": "300",
    "data.test_limit": "100",
    "network.name": "resnet20",
    "network.width": "4",
    "network.time_steps": "2",
    "neuron.surrogate.name": "triangle",
    "train.epochs": "2",
}


def options(**changes: object) -> list[str]:
    """Return the options of a small run; keys are written with two underscores for a dot."""
    entries = OPTIONS | {key.replace("__", "."): str(value) for key, value in changes.items()}
    return [part for key, value in entries.items() for part in (f"--{key}", value)]


def train(folder: Path, *more: str, **changes: object) -> int:
    """Run ``shortcut-snn train`` in this process and return its exit status."""
    return main(["train", "--out", str(folder), *options(**changes), *more])
