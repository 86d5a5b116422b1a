"""What a person sees in a terminal while a network trains."""

import os
import pty
import signal
import sys
import termios
import threading
from contextlib import suppress

import pytest

from .small import train
from .test_interruption import SETTINGS, signal_at

COLUMNS = 80


class Terminal:
    """A terminal of 80 columns in the place of a process's outputs."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.parent, child = pty.openpty()
        termios.tcsetwinsize(child, (24, COLUMNS))
        self.file, self.text = os.fdopen(child, "w"), b""
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        for name in ("stderr", "stdout"):
            patch.setattr(sys, name, self.file)
        patch.setattr("shortcut_snn.training.progress.EVERY", 0.0)

    def _read(self) -> None:
        # Linux says so when nobody has the other end.
        with suppress(OSError):
            while part := os.read(self.parent, 1 << 16):
                self.text += part

    def close(self) -> str:
        """Return what it was sent."""
        self.file.close()
        self.reader.join()
        os.close(self.parent)
        return self.text.decode()


def shown(text: str) -> list[str]:
    """The lines that stay: what follows the last erasure of each."""
    return [line.split("\r\x1b[K")[-1].strip("\r") for line in text.split("\n")]


def test_accuracy_is_seen_in_80_columns_and_nothing_wraps(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        terminal = Terminal(patch)
        assert train(tmp_path / "run", **SETTINGS) == 0
    text = terminal.close()
    drawn = [line for line in text.replace("\n", "\r").split("\r\x1b[K") if line]
    steps = [line for line in drawn if line.startswith("epoch 2/2 [")]
    assert len(steps) == 6
    assert all("accuracy" in line and line.rstrip("\r").endswith(" left") for line in steps)
    assert any(line.startswith("test [") for line in drawn)
    assert any(line.startswith("epoch 1/2: the first step compiles") for line in drawn)
    lines = shown(text)
    epochs = [line for line in lines if line.startswith("epoch")]
    assert [line.split(":")[0] for line in epochs] == ["epoch 1/2", "epoch 2/2"]
    assert all("validation" in line and "accuracy" in line for line in epochs)
    # Folders of a test have long names.
    kept = [line for line in lines if line.startswith(("epoch", "  ")) and str(tmp_path) not in line]
    assert len(kept) >= 9
    assert [line for line in [*kept, *steps] if len(line) >= COLUMNS] == []
    assert "110 train, 10 validation, 40 test; 6 steps an epoch" in text


def test_ctrl_c_leaves_lines_of_their_own(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        terminal = Terminal(patch)
        signal_at(patch, signal.SIGINT, 2)
        assert train(tmp_path / "run", **SETTINGS) == 130
    lines = [line for line in shown(terminal.close()) if line]
    assert lines[-2] == "stopping after this step; Ctrl-C once more loses it"
    assert lines[-1].startswith("shortcut-snn: error: interrupted by SIGINT; ")


def test_a_batch_that_is_larger_than_the_data_is_said(tmp_path, capsys):
    assert train(tmp_path / "run", **SETTINGS | {"training__epochs": 1, "data__batch_size": 5000}) == 0
    assert "a batch of 5,000 is more than there are to train on" in capsys.readouterr().out
