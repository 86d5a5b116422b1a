"""Try random faults on the command, and print how many were badly answered.

python -m tests.faults --seed 0 --count 100
python -m tests.faults --families recipes npz --count 1000
python -m tests.faults long --minutes 180
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings

from . import long
from .families import FAMILIES, Family


def main(arguments: Sequence[str] | None = None) -> int:
    """Try faults and print a table; the exit status is 1 if one was badly answered."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["long"]:
        return long.main(arguments[1:])
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="seed of the faults")
    parser.add_argument("--count", type=int, default=20, help="number of faults of each family")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES), metavar="NAME")
    options = parser.parse_args(arguments)
    problems = {name: try_family(FAMILIES[name], options.count, options.seed) for name in options.families}
    print(f"\n| family | {options.count} faults of seed {options.seed} |\n|---|---|")
    for name, problem in problems.items():
        print(f"| {name}: {FAMILIES[name].summary} | {problem or 'all well answered'} |")
    return int(any(problems.values()))


def try_family(family: Family, count: int, number: int) -> str:
    """Try some faults; return the simplest one that is badly answered, and why, or an empty string."""
    simplest = ""

    @seed(number)
    @settings(max_examples=count, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(family.faults)
    def property_holds(fault: Any) -> None:
        nonlocal simplest
        with tempfile.TemporaryDirectory(prefix="faults-") as folder, chdir(folder):
            if problem := family.check(fault, Path(folder)):
                # Hypothesis simplifies a failing fault, and tries the simplest last.
                simplest = f"{fault!r:.500}: {problem}"
                raise AssertionError(simplest)

    try:
        property_holds()
    except AssertionError:
        return simplest
    return ""


if __name__ == "__main__":
    sys.exit(main())
