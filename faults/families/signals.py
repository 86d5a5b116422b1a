"""Signals at any moment: what is asked to stop saves and says so, and goes on to the same end."""

import os
import random
import signal
from collections.abc import Iterator
from functools import partial
from typing import Any

from ..bench import Bench, differences, words
from ..case import Case

BEFORE = (13, 3)
SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP", "SIGKILL")
PLACES = ("step", "validation", "save", "table", "test", "random")


def cases(chance: random.Random) -> Iterator[Case]:
    """Yield a signal and where it comes; the first are of a comparison."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        yield Case(f"compare {name}", partial(_compare, name))
    yield Case("nohup", _nohup)
    while True:
        name, place, at = chance.choice(SIGNALS), chance.choice(PLACES), chance.randrange(1, 7)
        twice = chance.random() < 0.2
        yield Case(f"{name}{' twice' * twice} {place} {at}", partial(_try, name, place, at, twice))


def _arrange(name: str, place: str, at: int, twice: bool) -> None:
    """Let this process send itself a signal at the ``at``-th time that something is done."""
    from pathlib import Path

    import torch

    from shortcut_snn.training import Task

    owner: Any
    owner, method = {
        "step": (torch.optim.AdamW, "step"),
        "validation": (Task, "validation_step"),
        "save": (torch, "save"),
        "table": (Path, "replace"),
        "test": (Task, "test_step"),
    }[place]
    original, calls = getattr(owner, method), [0]

    def called(*given: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == at:
            for _ in range(1 + twice):
                os.kill(os.getpid(), getattr(signal, name))
        return original(*given, **named)

    setattr(owner, method, called)


def _try(name: str, place: str, at: int, twice: bool, bench: Bench) -> str:
    run, number = bench.folder / "run", getattr(signal, name)
    arguments = ["train", "--resume", "--out", run, *words()]
    if place == "random":
        running = bench.start(arguments)
        running.wait_for((run / "recipe.yaml").is_file)
        running.wait(0.1 * at)
        running.kill(number)
    else:
        running = bench.start(arguments, before=partial(_arrange, name, place, at, twice))
    answer = running.answer()
    killed = answer.status == -signal.SIGKILL and name == "SIGKILL"
    found = "" if killed else _stopped(answer, number)
    if found:
        return found
    saved = "goes on where it stopped" in answer.err
    if saved and place == "step" and not (run / "checkpoint.ckpt").is_file() and not twice:
        return "it says that it is saved, and is not"
    again = bench.run(*arguments)
    return again.wrong("work") or ", ".join(differences(run, bench.template("whole")))


def _stopped(answer: Any, number: int) -> str:
    found = answer.wrong(also=[128 + number])
    if not found and answer.status == 128 + number and "interrupted" not in answer.err:
        found = f"stopped without a word: {answer.err[-200:]}"
    return found


def _compare(name: str, bench: Bench) -> str:
    out, number = bench.folder / "out", getattr(signal, name)
    arguments = ["compare", "--out", out, "--methods", "vanilla", "--seeds", 2, "--jobs", 2]
    arguments += words({"training.epochs": 60})[2:]
    running = bench.popen(*arguments)
    running.wait_for(lambda: len(list(out.glob("vanilla/seed*/metrics.csv"))) == 2)
    running.kill(number)
    answer = running.answer()
    left = [path for path in out.glob("vanilla/seed*") if path.is_dir() and not (path / "checkpoint.ckpt").is_file()]
    found = answer.wrong(also=[128 + number])
    if not found and left:
        found = f"{len(left)} runs lost what they had"
    return found or ("" if answer.status == 128 + number else f"exit status {answer.status}")


def _nohup(bench: Bench) -> str:
    run = bench.folder / "run"
    running = bench.start(
        ["train", "--out", run, *words()], before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    )
    running.wait_for((run / "recipe.yaml").is_file)
    running.kill(signal.SIGHUP)
    answer = running.answer()
    return answer.wrong("work") or ", ".join(differences(run, bench.template("whole")))
