"""Where a fault is tried: the command in a process of its own, forked from one that has everything imported."""

import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SMALL = {
    "data.kind": "digits",
    "data.train_limit": 20,
    "data.test_limit": 20,
    "data.batch_size": 6,
    "network.kind": "vgg11",
    "network.width": 2,
    "network.time_steps": 1,
    "training.epochs": 2,
    "training.threads": 1,
}
"""The run that faults are tried on."""
ERROR = "shortcut-snn: error: "
LONGEST = 3000
"""More characters are no line for a person."""


def words(changes: Mapping[str, Any] = {}, preset: str = "evolutionary") -> list[str]:
    """Return the small run's options, changed."""
    entries = {key: value for key, value in (SMALL | dict(changes)).items() if value is not None}
    return ["--preset", preset, *(f"--{key}={value}" for key, value in entries.items())]


@dataclass(frozen=True)
class Answer:
    """What a command did: its exit status, None where it had to be killed, and what it wrote."""

    status: int | None
    out: str
    err: str

    @property
    def line(self) -> str:
        """The last error that it named."""
        found = [line for line in self.err.splitlines() if line.startswith(ERROR)]
        return found[-1].removeprefix(ERROR) if found else ""

    def wrong(self, must: str = "either", also: Sequence[int] = ()) -> str:
        """Return what is wrong with it, nothing if it is well answered.

        Args:
            must: ``"refuse"``, ``"work"``, or ``"either"``: whichever it does, it does well.
            also: exit statuses that are right besides 0, 1 and 2.
        """
        said = self.out + self.err
        if self.status is None:
            return "hangs"
        if "Traceback (most recent call last)" in said:
            return f"traceback: {(said.strip().splitlines() or [''])[-1][:200]}"
        if self.status not in (0, 1, 2, *also):
            return f"exit status {self.status}: {said.strip()[-200:]}"
        errors = [line for line in self.err.splitlines() if line.startswith(ERROR)]
        if self.status in (1, 2) and len(errors) != 1:
            return f"{len(errors)} lines of error with status {self.status}: {self.err[-200:]}"
        if any(len(line) > LONGEST for line in errors):
            return f"a line of {max(map(len, errors))} characters"
        if must == "refuse" and self.status == 0:
            return "accepted without a word"
        return f"refused: {self.line[:200]}" if must == "work" and self.status else ""


def _patience() -> float:
    """How much longer everything takes on a machine that others use too."""
    return min(8.0, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))


class Running:
    """A command that runs in a process of its own."""

    def __init__(self, number: int, place: Path) -> None:
        self.number, self.place = number, place
        self._status: int | None = None

    def kill(self, sent: int) -> None:
        """Send it a signal."""
        with suppress(ProcessLookupError):
            os.kill(self.number, sent)

    def poll(self) -> bool:
        """Say whether it has ended."""
        if self._status is None:
            number, status = os.waitpid(self.number, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if number else None
        return self._status is not None

    def wait_for(self, ready: Callable[[], bool], limit: float = 120) -> bool:
        """Wait until something is there, or the process has ended; return whether it is there."""
        until = time.monotonic() + limit * _patience()
        while not ready():
            if self.poll() or time.monotonic() > until:
                return ready()
            time.sleep(0.01)
        return True

    def wait(self, seconds: float) -> None:
        """Let it run for so long, or to its end."""
        until = time.monotonic() + seconds
        while not self.poll() and time.monotonic() < until:
            time.sleep(0.01)

    def answer(self, limit: float = 120) -> Answer:
        """Wait for its end, or kill it and all that it has started."""
        self.wait_for(lambda: False, limit)
        hung = self._status is None
        with suppress(ProcessLookupError):
            os.killpg(self.number, signal.SIGKILL)
        if hung:
            os.waitpid(self.number, 0)
        out, err = (
            path.read_text(encoding="utf-8", errors="replace") if (path := self.place / name).is_file() else ""
            for name in ("stdout", "stderr")
        )
        return Answer(None if hung else self._status, out, err)


class Bench:
    """A folder for each case, and runs to damage, made once.

    Args:
        root: where all of it goes.
        name: tells the folders of one bench from those of another.
    """

    def __init__(self, root: Path, name: str = "case") -> None:
        self.root, self.folder, self.name = root, root, name
        self._number = 0

    @contextmanager
    def case(self) -> Iterator[None]:
        """Have an empty folder for a case; it is removed afterwards."""
        self._number += 1
        self.folder = self.root / f"{self.name}{self._number}"
        self.folder.mkdir()
        try:
            yield
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def start(
        self, arguments: Sequence[object], before: Callable[[], Any] = lambda: None, pictures: bool = False
    ) -> Running:
        """Start the command in a forked process.

        Args:
            arguments: of the command.
            before: is called in the process first.
            pictures: whether a run draws any, which costs most of a small one.
        """
        place = Path(tempfile.mkdtemp(dir=self.folder, prefix=".said-"))
        sys.stdout.flush(), sys.stderr.flush()
        number = os.fork()
        if number == 0:
            status = 70
            try:
                os.setsid()
                os.chdir(self.folder)
                for name, descriptor in (("stdout", 1), ("stderr", 2)):
                    os.dup2(os.open(place / name, os.O_WRONLY | os.O_CREAT), descriptor)
                sys.stdout, sys.stderr = (
                    open(number, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
                    for number in (1, 2)
                )
                sys.argv = ["shortcut-snn", *map(str, arguments)]
                before()
                status = _main([str(argument) for argument in arguments], pictures)
            except SystemExit as error:
                status = error.code if isinstance(error.code, int) else 1
            except BaseException:
                traceback.print_exc()
            finally:
                with suppress(BaseException):
                    sys.stdout.flush(), sys.stderr.flush()
                os._exit(status)
        return Running(number, place)

    def run(self, *arguments: object, limit: float = 120, **how: Any) -> Answer:
        """Run the command in a forked process to its end."""
        return self.start(arguments, **how).answer(limit)

    def command(self, *arguments: object, limit: float = 240, **how: Any) -> Answer:
        """Run the real command, as a person starts it."""
        return self.popen(*arguments, **how).answer(limit)

    def popen(self, *arguments: object, **how: Any) -> Running:
        """Start the real command."""
        place = Path(tempfile.mkdtemp(dir=self.folder, prefix=".said-"))
        given = {"cwd": self.folder, "start_new_session": True} | how
        with (place / "stdout").open("wb") as out, (place / "stderr").open("wb") as err:
            given = {"stdout": out, "stderr": err} | given
            process = subprocess.Popen([sys.executable, "-P", "-m", "shortcut_snn", *map(str, arguments)], **given)
        # Its end is waited for by number, here too.
        process.returncode = 0
        return Running(process.pid, place)

    def copy(self, name: str) -> Path:
        """Return a copy of a run: ``"whole"``, ``"half"`` (its first epoch of two), or either of ``"calibrated"``."""
        path = self.folder / name.replace(" ", "-")
        shutil.copytree(self.template(name), path)
        return path

    def template(self, name: str) -> Path:
        """Return such a run, which is not to be touched."""
        path = self.root / "runs" / name.replace(" ", "-")
        if not path.is_dir():
            path.parent.mkdir(exist_ok=True)
            preset = "calibrated" if "calibrated" in name else "evolutionary"
            stop = _stop_after_an_epoch if "half" in name else (lambda: None)
            keep, self.folder = self.folder, path.parent
            answer = self.run("train", "--out", path, *words(preset=preset), before=stop, limit=600)
            self.folder = keep
            if answer.status != 0:
                raise RuntimeError(f"the run that is to be damaged failed: {answer}")
        return path

    def resume(self, run: Path, *more: object, **how: Any) -> Answer:
        """Go on with a run that was copied."""
        preset = "calibrated" if "calibrated" in run.name else "evolutionary"
        return self.run("train", "--resume", "--out", run, *words(preset=preset), *more, **how)


def _main(arguments: list[str], pictures: bool) -> int:
    from shortcut_snn.cli import main
    from shortcut_snn.diagnosis import plots

    if not pictures and arguments[:1] in (["train"], ["compare"]):
        for name in ("curves", "by_layer"):
            setattr(plots, name, lambda *_, **__: None)
    return main(arguments)


def _stop_after_an_epoch() -> None:
    from shortcut_snn.training.callbacks import SaveRun

    save = SaveRun.on_train_epoch_end

    def once(self: Any, trainer: Any, module: Any) -> None:
        save(self, trainer, module)
        os._exit(0)

    SaveRun.on_train_epoch_end = once


def preload() -> None:
    """Import what commands import, once, and compile what they compile."""
    import torch

    torch.set_num_threads(1)
    import lightning.pytorch  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import torchvision.io  # noqa: F401

    from shortcut_snn.cli import compare, components, energy, evaluate, export, gradients, recipes, report, train

    assert all((compare, components, energy, evaluate, export, gradients, recipes, report, train))
    from shortcut_snn.recipes import build, recipe_of
    from shortcut_snn.recipes.entries import said

    for preset in ("evolutionary", "calibrated"):
        task, data = build(recipe_of(preset, said([f"{key}={value}" for key, value in SMALL.items()])))
        inputs, target = task.ready(data.sample(4))
        for training in (True, False):
            task.train(training)
            loss = task.loss_of(task.model(inputs), target, 0.5)
            if training:
                loss.backward()
    # What is here now is here for good: processes that are forked need not look through it for what could be freed.
    gc.collect()
    gc.freeze()


TABLES, NETWORKS = ("metrics.csv", "gradients.csv", "layers.csv"), ("network.safetensors", "best.safetensors")


def differences(one: Path, other: Path) -> list[str]:
    """Return the names of what differs between two finished runs, but for times."""
    from shortcut_snn.deploy import read_network

    different = [name for name in TABLES if (one / name).read_bytes() != (other / name).read_bytes()]
    for name in NETWORKS:
        mine, theirs = (read_network(run / name)[0] for run in (one, other))
        if mine.keys() != theirs.keys() or not all(mine[key].equal(theirs[key]) for key in mine):
            different.append(name)
    return different + [path.name for path in one.iterdir() if path.name.startswith(".")]


def state(folder: Path) -> dict[str, bytes]:
    """Return the contents of a folder's files."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
