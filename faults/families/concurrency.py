"""Several processes at once, and processes that outlive others."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ..bench import Bench, differences, words
from ..case import Case

BEFORE = (14, 4)


def cases(chance: random.Random) -> Iterator[Case]:
    """Yield them, and again with other times, without end."""
    while True:
        wait = chance.uniform(0, 1)
        yield Case("two in one folder", partial(_two, wait))
        yield Case("killed, with workers, and resumed at once", partial(_killed, wait))
        yield Case("the parent of a comparison is killed", partial(_orphans, signal.SIGKILL))
        yield Case("two comparisons in one folder", partial(_comparisons, wait))
        yield Case("the umask of many threads", _umask)
        yield Case("evaluated while it trains", partial(_reader, "evaluate", wait))
        yield Case("reported while it trains", partial(_reader, "report", wait))


def _two(wait: float, bench: Bench) -> str:
    run = bench.folder / "run"
    first = bench.start(["train", "--resume", "--out", run, *words()])
    time.sleep(wait)
    second = bench.start(["train", "--resume", "--out", run, *words()])
    answers = [first.answer(), second.answer()]
    found = next((wrong for answer in answers if (wrong := answer.wrong())), "")
    if not found and all(answer.status for answer in answers):
        found = f"neither trained: {answers[0].line}"
    return found or ", ".join(differences(run, bench.template("whole")))


def _killed(wait: float, bench: Bench) -> str:
    run, changes = bench.folder / "run", {"data.workers": 2, "training.epochs": 40}
    running = bench.start(["train", "--out", run, *words(changes)])
    running.wait_for((run / "checkpoint.ckpt").is_file)
    running.kill(signal.SIGKILL)
    while not running.poll():
        time.sleep(0.001)
    again = bench.start(["train", "--resume", "--out", run, *words(changes)])
    again.wait(6 + wait)
    again.kill(signal.SIGTERM)
    answer = again.answer()
    running.answer()
    return answer.wrong(also=[143]) or (answer.line if "another process" in answer.line else "")


def _processes(folder: Path) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return [number for number in found if number != os.getpid()]


def _orphans(sent: int, bench: Bench) -> str:
    out = bench.folder / "out"
    arguments = ["compare", "--out", out, "--methods", "vanilla", "--seeds", 1, *words({"training.epochs": 200})[2:]]
    running = bench.popen(*arguments)
    running.wait_for(lambda: any(out.glob("vanilla/seed*/checkpoint.ckpt")))
    running.kill(sent)
    until = time.monotonic() + 240
    while (left := _processes(out)) and time.monotonic() < until:
        running.poll()
        time.sleep(0.1)
    for number in left:
        os.kill(number, signal.SIGKILL)
    running.answer(1)
    return f"{len(left)} runs go on alone" if left else ""


def _comparisons(wait: float, bench: Bench) -> str:
    out = bench.folder / "out"
    arguments = ["compare", "--out", out, "--methods", "vanilla", "--seeds", 1, *words()[2:]]
    first = bench.start(arguments)
    time.sleep(wait)
    second = bench.start(arguments)
    answers = [first.answer(240), second.answer(240)]
    found = next((wrong for answer in answers if (wrong := answer.wrong())), "")
    return found or ("neither came to its end" if all(answer.status for answer in answers) else "")


def _umask(bench: Bench) -> str:
    from shortcut_snn.files import write_text

    before, stop, wrong = os.umask(0o027), threading.Event(), []

    def write(number: int) -> None:
        place = 0
        while not stop.is_set():
            place += 1
            path = bench.folder / f"{number}-{place % 50}"
            if number % 2:
                write_text(path, "ours")
            else:
                path.unlink(missing_ok=True)
                path.write_text("another's")
            try:
                mode = path.stat().st_mode & 0o777
            except FileNotFoundError:
                continue
            wrong.extend([oct(mode)] * (mode != 0o640))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    stop.set()
    for thread in threads:
        thread.join()
    after = os.umask(before)
    return (
        f"{len(wrong)} files have the mode {wrong[0]}" if wrong else "" if after == 0o027 else f"the umask is {after:o}"
    )


def _reader(command: str, wait: float, bench: Bench) -> str:
    run = bench.folder / "run"
    running = bench.start(["train", "--out", run, *words({"training.epochs": 6})])
    running.wait_for((run / "metrics.csv").is_file)
    time.sleep(wait)
    answers: list[Any] = [bench.run(command, run) for _ in range(2)]
    last = running.answer()
    return next((wrong for answer in answers if (wrong := answer.wrong())), "") or last.wrong("work")
