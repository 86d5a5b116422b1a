"""Run the command in this process, and judge its answer."""

import io
import traceback
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shortcut_snn.cli import main

SMALL: Mapping[str, Any] = {
    "data.kind": "digits",
    "data.train_limit": 20,
    "data.test_limit": 20,
    "data.batch_size": 10,
    "network.kind": "vgg11",
    "network.width": 2,
    "network.time_steps": 1,
    "training.epochs": 1,
    "training.threads": 1,
}
"""A run of a second."""
ERROR = "shortcut-snn: error: "
MAX_LINE = 3000


@dataclass(frozen=True)
class Answer:
    """The exit status of a command and what it printed.

    Example:
        >>> Answer(2, "", "shortcut-snn: error: no such file\\n").problem()
        ''
        >>> Answer(1, "", "Traceback (most recent call last)\\nKeyError: 'x'\\n").problem()
        "traceback: KeyError: 'x'"
    """

    status: int
    out: str
    err: str

    def problem(self, must_fail: bool = False) -> str:
        """Return what is wrong with the answer, or an empty string.

        A good answer is success, or status 1 or 2 with one line of error.

        Args:
            must_fail: whether success is wrong.
        """
        errors = [line for line in self.err.splitlines() if line.startswith(ERROR)]
        if "Traceback (most recent call last)" in self.out + self.err:
            return f"traceback: {self.err.strip().splitlines()[-1][:200]}"
        if self.status not in (0, 1, 2):
            return f"exit status {self.status}: {self.err.strip()[-200:]}"
        if self.status and len(errors) != 1:
            return f"{len(errors)} lines of error with status {self.status}: {self.err[-200:]}"
        if any(len(line) > MAX_LINE for line in errors):
            return f"a line of {max(map(len, errors))} characters"
        return "accepted" if must_fail and self.status == 0 else ""


def run(*arguments: object) -> Answer:
    """Run ``shortcut-snn`` with some arguments."""
    out, err = io.StringIO(), io.StringIO()
    status: int
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        except Exception:
            traceback.print_exc()
            status = 70
    return Answer(status, out.getvalue(), err.getvalue())


def train(folder: Path, changes: Mapping[str, Any] = {}, *arguments: object) -> Answer:
    """Train the small run with some changed entries; None removes an entry."""
    entries = {key: value for key, value in (SMALL | dict(changes)).items() if value is not None}
    return run("train", "--out", folder, *(f"--{key}={value}" for key, value in entries.items()), *arguments)
