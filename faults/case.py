"""A case: one fault, and how it is judged; a family: a generator of cases."""

import importlib
import pkgutil
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from .bench import Bench


@dataclass(frozen=True)
class Case:
    """One fault.

    Args:
        name: of the fault, for a person.
        act: tries it; returns what was badly answered, nothing if nothing was.
    """

    name: str
    act: Callable[[Bench], str]


class Family(Protocol):
    """A module in ``families``."""

    BEFORE: tuple[int, int]
    """Tried and badly answered in the trial that this generator came of."""

    def cases(self, chance: random.Random) -> Iterator[Case]:
        """Yield cases, without end or all that there are."""


def families() -> dict[str, Family]:
    """Return the families by name: one file each."""
    package = importlib.import_module(f"{__package__}.families")
    return {
        each.name: importlib.import_module(f"{package.__name__}.{each.name}")  # type: ignore[misc]
        for each in pkgutil.iter_modules(package.__path__)
    }
