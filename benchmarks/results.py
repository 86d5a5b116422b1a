"""Results on disk: one JSON file for a cell under one allocator, from which a long run resumes."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import identity
from .cell import Cell
from .plan import Plan


@dataclass(frozen=True)
class Result:
    """A cell under one allocator.

    Args:
        cell: the workload.
        allocator: a key of ``measure.process.ALLOCATORS``.
        contenders: for each, ``step`` and ``inference`` seconds and ``memory`` bytes over idle, or ``error``.
        agreement: the checks of all contenders.
        operators: the operators at inference, in the part ``"method"``.
        about: machine, versions, commit, settings and when it was measured.
    """

    cell: Cell
    allocator: str
    contenders: dict[str, Any]
    agreement: list[dict[str, Any]]
    operators: dict[str, Any] | None
    about: dict[str, Any]


class Store:
    """The folder of results that belong to this code on this machine.

    Args:
        folder: folder of the results; created when needed.
        plan: whose effort and contenders the results must have been measured with.
        device: ``"cpu"`` or ``"cuda"``.
        threads: threads of a contender.
    """

    def __init__(self, folder: Path, plan: Plan, device: str, threads: int) -> None:
        self.folder = folder
        self.about: dict[str, Any] = {
            "machine": identity.machine(device, threads),
            "versions": identity.versions(),
            "code": identity.code(),
            "effort": asdict(plan.effort),
            "contenders": list(plan.contenders),
        }
        self.key = identity.key(self.about)

    def path(self, cell: Cell, allocator: str) -> Path:
        """Return the path of a result."""
        return self.folder / f"{cell.slug}-{allocator}-{self.key}.json"

    def has(self, cell: Cell, allocator: str) -> bool:
        """Return whether a result exists."""
        return self.path(cell, allocator).exists()

    def write(self, result: Result) -> None:
        """Write a result atomically."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(result.cell, result.allocator)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(result), indent=1))
        os.replace(partial, path)

    def read(self) -> list[Result]:
        """Return all results of this code on this machine, from all runs."""
        results = []
        for path in sorted(self.folder.glob(f"*-{self.key}.json")):
            fields = json.loads(path.read_text())
            results.append(Result(**(fields | {"cell": Cell(**fields["cell"])})))
        return results
