"""Files that would run code, and a program that would talk to somebody."""

import os
import pickle
import random
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ..bench import Bench, words
from ..case import Case

BEFORE = (6, 2)
COMMANDS = ("train", "evaluate", "report", "energy", "gradients", "export", "recipes", "components", "compare")
HIJACKED = ("yaml", "torch", "random", "json", "numpy", "lightning", "csv", "matplotlib")


def cases(chance: random.Random) -> Iterator[Case]:
    """Yield them all, then mixtures, without end."""
    for command in COMMANDS:
        yield Case(f"{command} without a network", partial(_sockets, command))
    yield Case("telemetry of others", _telemetry)
    for name in HIJACKED:
        yield Case(f"./{name}.py", partial(_current_folder, name))
    while True:
        where = chance.choice(("checkpoint", "network", "cifar", "npz", "surrogates"))
        yield Case(
            f"a pickle for {where}, protocol {(protocol := chance.choice((2, 3, 4, 5)))}",
            partial(_pickle, where, protocol),
        )
        yield Case(
            f"markup in {(name := chance.choice(('metrics.csv', 'result.json', 'environment.json')))}",
            partial(_markup, name),
        )


def _arguments(command: str, bench: Bench) -> list[object]:
    whole = bench.copy("whole")
    return {
        "train": ["train", "--out", bench.folder / "out", *words()],
        "gradients": ["gradients", "--out", bench.folder / "out", *words()],
        "compare": ["compare", "--out", bench.folder / "c", "--methods", "vanilla", "--seeds", 1, *words()[2:]],
        "export": ["export", whole, "--to", "onnx"],
        "recipes": ["recipes"],
        "components": ["components"],
    }.get(command, [command, whole])  # type: ignore[return-value]


def _deny() -> None:
    """Let nothing in this process reach a network."""

    def denied(self: Any, *given: Any) -> None:
        if self.family != socket.AF_UNIX:
            os.write(2, b"Traceback (most recent call last): a connection was opened\n")
        raise OSError("no network")

    def no_names(*given: Any, **named: Any) -> None:
        os.write(2, b"Traceback (most recent call last): a name was looked up\n")
        raise OSError("no network")

    socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = denied  # type: ignore[assignment]
    socket.getaddrinfo = no_names  # type: ignore[assignment]


def _sockets(command: str, bench: Bench) -> str:
    return bench.run(*_arguments(command, bench), before=_deny, limit=240).wrong("work")


def _telemetry(bench: Bench) -> str:
    home = bench.folder / "home"
    home.mkdir()
    answer = bench.command("train", "--out", bench.folder / "out", *words(), env=os.environ | {"HOME": str(home)})
    left = [path for path in home.rglob("*") if "microsoft" in str(path).lower() or "telemetry" in path.name.lower()]
    return answer.wrong("work") or (f"{left[0].relative_to(home)} was written" if left else "")


def _current_folder(name: str, bench: Bench) -> str:
    victim = bench.folder / "victim"
    (bench.folder / f"{name}.py").write_text(f"open({str(victim)!r}, 'w')\nraise SystemExit(3)\n")
    answer = bench.run(
        "compare", "--out", bench.folder / "c", "--methods", "vanilla", "--seeds", 1, *words()[2:], limit=240
    )
    return "code of the current folder was run" if victim.exists() else answer.wrong("work")


class _Malice:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.victim}",)


def _pickle(where: str, protocol: int, bench: Bench) -> str:
    victim, out = bench.folder / "victim", bench.folder / "out"
    content = pickle.dumps({"state_dict": _Malice(victim), "loops": {}, "data": _Malice(victim)}, protocol=protocol)
    if where in ("checkpoint", "network", "surrogates"):
        run = bench.copy("half" if where == "checkpoint" else "whole")
        name = {"checkpoint": "checkpoint.ckpt", "network": "network.safetensors", "surrogates": "surrogates.json"}[
            where
        ]
        (run / name).write_bytes(content)
        (run / "checksums.json").unlink(missing_ok=True)
        answer = bench.resume(run) if where == "checkpoint" else bench.run("evaluate", run)
    elif where == "npz":
        (bench.folder / "data.npz").write_bytes(content)
        answer = bench.run("train", "--out", out, *words({"data.kind": "npz", "data.root": bench.folder / "data.npz"}))
    else:
        folder = bench.folder / "cifar-10-batches-py"
        folder.mkdir()
        for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"):
            (folder / name).write_bytes(content)
        answer = bench.run("train", "--out", out, *words({"data.kind": "cifar10", "data.root": bench.folder}))
    advice = "weights_only" in answer.line and "False" in answer.line
    found = "code was run" if victim.exists() else "it advises to set safety off" if advice else ""
    return found or answer.wrong("either" if where == "surrogates" else "refuse")


def _markup(name: str, bench: Bench) -> str:
    run, evil = bench.copy("whole"), "<script>alert(1)</script>"
    path = run / name
    text = path.read_text()
    path.write_text(
        text.replace("train_loss", evil, 1)
        if name.endswith("csv")
        else text.replace("accuracy", evil).replace("torch", evil)
    )
    answer = bench.run("report", run)
    page = run / "report.html"
    return answer.wrong() or ("a report holds the script" if page.is_file() and evil in page.read_text() else "")
