"""A run small enough for a test: real digits, a thin ResNet-8, two time steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shortcut_snn.cli import main
from shortcut_snn.training.run_state import SaveRun

OPTIONS = {
    "data.kind": "digits",
    "data.batch_size": "50",
    "data.train_limit": "300",
    "data.test_limit": "100",
    "network.kind": "resnet8",
    "network.width": "4",
    "network.time_steps": "2",
    "neuron.surrogate.kind": "triangle",
    "training.epochs": "2",
}


def options(preset: str = "evolutionary", **changes: object) -> list[str]:
    """Return the options of a small run; keys are written with two underscores for a dot."""
    entries = OPTIONS | {key.replace("__", "."): str(value) for key, value in changes.items()}
    return ["--preset", preset, *(part for key, value in entries.items() for part in (f"--{key}", value))]


def train(folder: Path, *more: str, **changes: object) -> int:
    """Run ``shortcut-snn train`` in this process and return its exit status."""
    return main(["train", "--out", str(folder), *options(**changes), *more])


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what the command printed on stderr: one line of an error."""
    message = capsys.readouterr().err
    assert message.startswith("shortcut-snn: error: "), message
    assert message.count("\n") == 1, message
    return message


@contextmanager
def killed_after_first_epoch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End training in the block once its first epoch is saved."""
    end, killed = SaveRun.on_train_epoch_end, RuntimeError("killed")

    def kill(self: SaveRun, trainer: object, module: object) -> None:
        end(self, trainer, module)  # type: ignore[arg-type]
        raise killed

    with monkeypatch.context() as patch:
        patch.setattr(SaveRun, "on_train_epoch_end", kill)
        with pytest.raises(RuntimeError, match="killed"):
            yield


def interrupt_after_first_epoch(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Train until the first epoch is saved."""
    with killed_after_first_epoch(monkeypatch):
        train(folder, **changes)


def assert_resumes_bit_identically(folder: Path, monkeypatch: pytest.MonkeyPatch, *files: str, **given: object) -> None:
    """Train once as a whole and once killed after the first epoch, and compare files of the runs."""
    assert train(folder / "whole", **given) == 0
    interrupt_after_first_epoch(folder / "parts", monkeypatch, **given)
    assert train(folder / "parts", "--resume", **given) == 0
    for name in files:
        assert (folder / "parts" / name).read_bytes() == (folder / "whole" / name).read_bytes(), name
