"""The progress bar in a terminal."""

import os
import pty
import sys
import termios
import threading
from contextlib import suppress

import pytest

from .small import train
from .test_interruption import SETTINGS


class Terminal:
    """A terminal of 120 columns that replaces outputs of this process."""

    def __init__(self, patch: pytest.MonkeyPatch, *names: str) -> None:
        self.parent, child = pty.openpty()
        termios.tcsetwinsize(child, (24, 120))
        self.file, self.text = os.fdopen(child, "w"), b""
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        for name in names:
            patch.setattr(sys, name, self.file)

    def _read(self) -> None:
        # Linux raises an error when the other end is closed.
        with suppress(OSError):
            while part := os.read(self.parent, 1 << 16):
                self.text += part

    def close(self) -> str:
        """Return what was written."""
        self.file.close()
        self.reader.join()
        os.close(self.parent)
        return self.text.decode()


def test_a_terminal_shows_a_bar_and_keeps_the_lines_of_epochs(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        terminal = Terminal(patch, "stderr", "stdout")
        assert train(tmp_path / "run", **SETTINGS) == 0
    text = terminal.close()
    # Before the first step there is a sign of life.
    assert text.index("Epoch 1, first step: kernels may compile") < text.index("Epoch 1:") < text.index("Epoch 2:")
    assert "Epoch 2," not in text
    assert "accuracy=" in text
    lines = [line.split("\r")[-1].removeprefix("\x1b[K") for line in text.replace("\r\n", "\n").split("\n")]
    assert [line.split(":")[0] for line in lines if line.startswith("epoch")] == ["epoch 1/2", "epoch 2/2"]


def test_a_log_file_has_the_lines_of_epochs_alone(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        terminal = Terminal(patch, "stderr")
        assert train(tmp_path / "run", **SETTINGS | {"training__epochs": 1}) == 0
    assert terminal.close() == ""
    text = capsys.readouterr().out
    assert "epoch 1/1: loss" in text
    assert not any(word in text for word in ("\r", "Epoch", "Validation"))


def test_a_batch_larger_than_the_data_is_reported(tmp_path, capsys):
    assert train(tmp_path / "run", **SETTINGS | {"training__epochs": 1, "data__batch_size": 5000}) == 0
    assert "the batch size 5,000 exceeds the training set" in capsys.readouterr().out
