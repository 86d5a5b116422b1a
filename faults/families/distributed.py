"""Several processes that train together, one of which is not there, leaves or disagrees."""

import os
import random
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from ..bench import Bench, Running, words
from ..case import Case

BEFORE = (9, 4)
TWO = {"training.devices": 2, "training.strategy": "ddp", "training.accelerator": "cpu", "data.batch_size": 5}


def cases(chance: random.Random) -> Iterator[Case]:
    """Yield them all, once."""
    for strategy in ("ddp_spawn", "ddp_fork", "ddp_notebook", "single_xla", "deepspeed", "fsdp", "magic"):
        yield Case(f"strategy {strategy}", partial(_strategy, strategy))
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        yield Case(f"a machine is missing, and {name}", partial(_missing, name))
    for peer in (0, 1):
        yield Case(f"process {peer} is killed", partial(_killed, peer))
    for changes in ({"optimizer.lr": 0.5}, {"network.width": 3}, {"training.epochs": 3}, {"data.batch_size": 4}):
        yield Case(f"another recipe in each: {next(iter(changes))}", partial(_unequal, changes))
    for peers in ((0,), (1,), (0, 1)):
        yield Case(f"SIGTERM to {' and '.join(map(str, peers))}", partial(_stopped, peers))
    yield Case("as many processes as the recipe does not say", _disagree)
    yield Case("two processes, and resumed by one", _resumed)


def _strategy(name: str, bench: Bench) -> str:
    changes = {"training.strategy": name, "training.accelerator": "cpu", "training.epochs": 1}
    must = "refuse" if name not in ("fsdp",) else "either"
    return bench.command("train", "--out", bench.folder / "out", *words(changes)).wrong(must)


def _port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def _missing(name: str, bench: Bench) -> str:
    changes = {"training.nodes": 2, "training.strategy": "ddp", "training.accelerator": "cpu", "data.batch_size": 5}
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _port(), "NODE_RANK": "0"}
    running = bench.popen("train", "--out", bench.folder / "out", *words(changes), env=environment)
    running.wait_for(lambda: "waiting for all" in (running.place / "stdout").read_text(), limit=240)
    running.wait(10)
    running.kill(getattr(signal, name))
    answer = running.answer(90)
    return answer.wrong(also=[128 + getattr(signal, name)])


def _pair(bench: Bench, changes: dict[str, Any], second: Mapping[str, Any] = MappingProxyType({})) -> list[Running]:
    """Start two processes as torchrun does, the second perhaps with another recipe."""
    port, found = _port(), []
    for rank in "01":
        environment = os.environ | {
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank,
            "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "faults",
        }  # fmt: skip
        entries = words(changes | (second if rank == "1" else {}))
        found.append(bench.popen("train", "--out", bench.folder / "run", *entries, env=environment))
    return found


def _killed(peer: int, bench: Bench) -> str:
    pair = _pair(bench, TWO | {"training.epochs": 500})
    pair[0].wait_for((bench.folder / "run" / "checkpoint.ckpt").is_file, limit=240)
    pair[peer].kill(signal.SIGKILL)
    killed = time.monotonic()
    answer = pair[1 - peer].answer(120)
    took = time.monotonic() - killed
    pair[peer].answer(1)
    found = answer.wrong("refuse")
    if not found and "--resume" not in answer.line:
        found = f"it does not say what to do: {answer.line[:200]}"
    return found or (f"it took {took:.0f} s" if took > 60 else "")


def _unequal(second: dict[str, Any], bench: Bench) -> str:
    answers = [process.answer(120) for process in _pair(bench, TWO, second)]
    found = next((wrong for answer in answers if (wrong := answer.wrong("refuse"))), "")
    unsaid = [answer.line for answer in answers if "same recipe" not in answer.line]
    return found or (f"it does not say what is wrong: {unsaid[0][:200]}" if unsaid else "")


def _disagree(bench: Bench) -> str:
    answers = [process.answer(120) for process in _pair(bench, TWO | {"training.devices": 1})]
    return next((wrong for answer in answers if (wrong := answer.wrong("refuse"))), "")


def _stopped(peers: tuple[int, ...], bench: Bench) -> str:
    changes = TWO | {"training.sync_batchnorm": "true", "training.epochs": 500}
    pair = _pair(bench, changes)
    pair[0].wait_for((bench.folder / "run" / "checkpoint.ckpt").is_file, limit=240)
    for peer in peers:
        pair[peer].kill(signal.SIGTERM)
    answers = [process.answer() for process in pair]
    found = next((wrong for answer in answers if (wrong := answer.wrong(also=[143]))), "")
    return found or ("" if answers[0].status == 143 else f"the first ended with {answers[0].status}")


def _resumed(bench: Bench) -> str:
    changes = TWO | {"training.sync_batchnorm": "true", "training.epochs": 3}
    pair = _pair(bench, changes)
    pair[0].wait_for((bench.folder / "run" / "checkpoint.ckpt").is_file, limit=240)
    for process in pair:
        process.kill(signal.SIGTERM)
    found = next((wrong for each in pair if (wrong := each.answer().wrong(also=[143]))), "")
    one = changes | {"training.devices": 1, "training.strategy": "auto", "data.batch_size": 10}
    return found or bench.run("train", "--resume", "--out", bench.folder / "run", *words(one)).wrong("work")
