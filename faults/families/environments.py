"""Machines, terminals and disks as they are: closed outputs, full disks, other locales, folders that go away."""

import os
import random
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ..bench import Bench, differences, words
from ..case import Case

BEFORE = (47, 15)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
        # As Python has it where they were closed before it began.
        setattr(sys, {0: "stdin", 1: "stdout", 2: "stderr"}[descriptor], None)


def _full() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 (to the end of the process)


def _broken() -> None:
    ears, mouth = os.pipe()
    os.dup2(mouth, 1)
    os.close(ears), os.close(mouth)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 (to the end of the process)


def _encoding(name: str) -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding=name)  # type: ignore[union-attr]


def _without(*names: str) -> None:
    for name in names:
        os.environ.pop(name, None)


def _limit(what: int, most: int) -> None:
    resource.setrlimit(what, (most, most))


SURROUNDINGS: dict[str, Callable[[], Any]] = {
    "stdout closed": lambda: _close(1),
    "stderr closed": lambda: _close(2),
    "all closed": lambda: _close(0, 1, 2),
    "a full stdout": _full,
    "a broken stdout": _broken,
    "stdout in cp1252": lambda: _encoding("cp1252"),
    "stdout in ASCII": lambda: _encoding("ascii"),
    "no HOME": lambda: _without("HOME"),
    "HOME is nowhere": lambda: os.environ.update(HOME="/nowhere"),
    "no variables": os.environ.clear,
    "TMPDIR is nowhere": lambda: os.environ.update(TMPDIR="/nowhere"),
    "umask 077": lambda: os.umask(0o077),
    "few files": lambda: _limit(resource.RLIMIT_NOFILE, 64),
    "few columns": lambda: os.environ.update(COLUMNS="1"),
    "other threads": lambda: os.environ.update(OMP_NUM_THREADS="nothing", NUMBA_NUM_THREADS="1"),
    "a dumb terminal": lambda: os.environ.update(TERM="dumb", NO_COLOR="1"),
    "ignored SIGPIPE": lambda: signal.signal(signal.SIGPIPE, signal.SIG_DFL),
}
COMMANDS = ("train", "evaluate", "report", "recipes", "components", "export", "energy", "gradients")


def cases(chance: random.Random) -> Iterator[Case]:
    """Yield what happens to a run's folder and disk, then surroundings and commands, without end."""
    yield Case("the run's folder is removed", partial(_gone, _remove))
    yield Case("the run's folder is moved", partial(_gone, _move))
    yield Case("the current folder changes", _elsewhere)
    yield Case("the current folder is gone", _nowhere)
    yield Case("a full disk at the end of an epoch", _disk)
    yield Case("little shared memory", partial(_shared, "64k"))
    yield Case("no shared memory", partial(_shared, "4k"))
    yield Case("a small address space", _memory)
    for name in ("a full stdout", "a broken stdout", "stdout closed", "all closed", "stdout in cp1252"):
        yield Case(f"train, {name}", partial(_try, name, "train"))
    yield Case("compare, stdout in cp1252", partial(_compare, "stdout in cp1252"))
    yield Case("compare, a broken stdout", partial(_compare, "a broken stdout"))
    while True:
        name, command = chance.choice(list(SURROUNDINGS)), chance.choice(COMMANDS)
        yield Case(f"{command}, {name}", partial(_try, name, command))


def _try(name: str, command: str, bench: Bench) -> str:
    out, whole = bench.folder / "out", bench.copy("whole")
    arguments: list[object] = {
        "train": ["train", "--out", out, *words()],
        "gradients": ["gradients", "--out", out, *words()],
        "export": ["export", whole, "--to", "safetensors"],
        "recipes": ["recipes"],
        "components": ["components"],
    }.get(command, [command, whole])
    gentle = name not in ("few files", "a full stdout", "TMPDIR is nowhere")
    must = "work" if command == "train" or gentle else "either"
    answer = bench.run(*arguments, before=SURROUNDINGS[name])
    quiet = name in ("stderr closed", "all closed") and answer.status in (0, 1, 2)
    found = "" if quiet and answer.status == 0 else answer.wrong(must)
    if not found and command == "train" and answer.status == 0:
        found = ", ".join(differences(out, bench.template("whole")))
    return found


def _compare(name: str, bench: Bench) -> str:
    out = bench.folder / "é"
    arguments = ["compare", "--out", out, "--methods", "vanilla", "--seeds", 1, *words({"training.epochs": 1})[2:]]
    answer = bench.run(*arguments, before=SURROUNDINGS[name], limit=240)
    return answer.wrong("work") or ("" if (out / "comparison.csv").is_file() else "no comparison was written")


def _after_an_epoch(act: Callable[[Path], Any], run: Path) -> None:
    """Do something to a run's folder when its first epoch is over."""
    from shortcut_snn.training.callbacks import SaveRun

    save, done = SaveRun.on_train_epoch_end, []

    def once(self: Any, trainer: Any, module: Any) -> None:
        save(self, trainer, module)
        if not done:
            done.append(act(run))

    SaveRun.on_train_epoch_end = once  # type: ignore[method-assign]


def _remove(run: Path) -> None:
    shutil.rmtree(run)


def _move(run: Path) -> None:
    run.rename(run.with_name("moved"))


def _gone(act: Callable[[Path], Any], bench: Bench) -> str:
    run = bench.folder / "run"
    answer = bench.run("train", "--out", run, *words(), before=partial(_after_an_epoch, act, run))
    found = answer.wrong("work")
    if not found and "goes on in" not in answer.out:
        found = "it does not say where it went on"
    if not found and (run / "metrics.csv").read_bytes() != (bench.template("whole") / "metrics.csv").read_bytes():
        found = "other metrics"
    return found or bench.run("evaluate", run).wrong("work")


def _elsewhere(bench: Bench) -> str:
    other = bench.folder / "other"
    other.mkdir()
    before = partial(_after_an_epoch, lambda run: os.chdir(other), bench.folder / "run")
    answer = bench.run("train", "--out", "run", *words(), before=before)
    found = answer.wrong("work") or ", ".join(differences(bench.folder / "run", bench.template("whole")))
    return found or ("the run lies in two folders" if any(other.iterdir()) else "")


def _nowhere(bench: Bench) -> str:
    gone = bench.folder / "gone"

    def go() -> None:
        gone.mkdir()
        os.chdir(gone)
        gone.rmdir()

    return bench.run("train", "--out", "run", *words(), before=go).wrong("refuse") or bench.run(
        "train", "--out", bench.folder / "run", *words(), before=go
    ).wrong("refuse")


def _disk(bench: Bench) -> str:
    run = bench.folder / "run"

    def fill(run: Path) -> None:
        # A write beyond fails as on a full disk.
        _limit(resource.RLIMIT_FSIZE, 3000)

    answer = bench.run("train", "--out", run, *words(), before=partial(_after_an_epoch, fill, run))
    found = answer.wrong("refuse")
    return found or bench.resume(run).wrong("work") or ", ".join(differences(run, bench.template("whole")))


def _shared(size: str, bench: Bench) -> str:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return ""
    command = [sys.executable, "-P", "-m", "shortcut_snn", "train", "--out", str(bench.folder / "run")]
    command += words({"data.workers": 2, "data.batch_size": 512, "data.train_limit": 1200, "network.width": 2})
    script = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"'
    import subprocess

    try:
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", script, "sh", *command],
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "hangs"
    from ..bench import Answer

    return Answer(done.returncode, done.stdout, done.stderr).wrong("refuse")


def _memory(bench: Bench) -> str:
    def little() -> None:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _limit(resource.RLIMIT_AS, size + 2**26)

    return bench.run("train", "--out", bench.folder / "run", *words({"network.width": 512}), before=little).wrong(
        "refuse"
    )
