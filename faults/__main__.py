"""Try faults on the command, and count what is badly answered.

python -m faults --seed 0 --count 40
python -m faults --seed 0 --families npz recipes --count 200
python -m faults long --minutes 15
"""

import argparse
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from . import long
from .bench import Bench, preload
from .case import families


def main(arguments: Sequence[str] | None = None) -> int:
    """Try faults and print the table; the exit status is 1 where one was badly answered."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["long"]:
        return long.main(given[1:])
    known = families()
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=0, help="of the cases")
    parser.add_argument("--count", type=int, default=20, help="cases of each family; some have fewer")
    parser.add_argument("--families", nargs="+", default=list(known), choices=list(known), metavar="NAME")
    parser.add_argument("--jobs", type=int, default=1, help="families at the same time")
    parser.add_argument("--case", type=int, default=None, help="try this one alone, counted from 0")
    parser.add_argument("--out", type=Path, default=None, help="JSON file for the counts and what was badly answered")
    options = parser.parse_args(given)
    # As started from a terminal, though this may be by nohup.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    preload()
    counts: dict[str, tuple[int, list[str]]] = {}
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        for name in ("whole", "half", "whole calibrated", "half calibrated"):
            Bench(Path(folder)).template(name)
        waiting, running = list(options.families), dict[int, str]()
        while waiting or running:
            if waiting and len(running) < options.jobs:
                name = waiting.pop(0)
                running[_start(name, Path(folder), options)] = name
                continue
            name = running.pop(os.wait()[0])
            tried, bad = json.loads((Path(folder) / f"{name}.json").read_text())
            counts[name] = tried, bad
            if options.out is not None:
                options.out.write_text(json.dumps(counts, indent=2) + "\n")
    counts = {name: counts[name] for name in options.families}
    print(f"\n| family | before: tried / badly answered | seed {options.seed}: tried / badly answered |\n|---|---|---|")
    for name, (tried, bad) in counts.items():
        before = known[name].BEFORE
        print(f"| {name} | {before[0]} / {before[1]} | {tried} / {len(bad)} |")
    return int(any(bad for _, bad in counts.values()))


def _start(name: str, folder: Path, options: argparse.Namespace) -> int:
    """Try a family in a process of its own, which leaves what it found in a file."""
    sys.stdout.flush()
    number = os.fork()
    if number == 0:
        try:
            found = _try_family(name, Bench(folder, name), options)
            (folder / f"{name}.json").write_text(json.dumps(found))
        finally:
            os._exit(0)
    return number


def _try_family(name: str, bench: Bench, options: argparse.Namespace) -> tuple[int, list[str]]:
    start, bad, tried = time.monotonic(), [], 0
    made = families()[name].cases(random.Random(f"{options.seed} {name}"))
    for number, case in enumerate(itertools.islice(made, options.count)):
        if options.case not in (None, number):
            continue
        with bench.case():
            try:
                found = case.act(bench)
            except Exception as error:
                found = f"what checks it failed: {type(error).__name__}: {error}"
        tried += 1
        if found:
            bad.append(f"{number}: {case.name}: {found}")
            print(f"{name} {bad[-1]}", flush=True)
    print(f"{name}: {tried} tried, {len(bad)} badly answered, {time.monotonic() - start:.0f} s", flush=True)
    return tried, bad


if __name__ == "__main__":
    sys.exit(main())
