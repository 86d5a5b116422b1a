"""Results on disk: one JSON file for a cell, from which a long run resumes."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shortcut_snn._utils.files import write_text

from . import identity
from .cell import Cell
from .plan import Plan


@dataclass(frozen=True)
class Result:
    """The figures of a cell.

    Args:
        cell: the workload.
        contenders: for each, ``step`` and ``inference`` seconds and ``memory`` bytes over idle, or ``error``.
        agreement: the checks of all contenders.
        about: machine, versions, commit, settings and when it was measured.
    """

    cell: Cell
    contenders: dict[str, Any]
    agreement: list[dict[str, Any]]
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

    def path(self, cell: Cell) -> Path:
        """Return the path of a result."""
        return self.folder / f"{cell.slug}-{self.key}.json"

    def write(self, result: Result) -> None:
        """Write a result atomically."""
        write_text(self.path(result.cell), json.dumps(asdict(result), indent=1))

    def read(self) -> list[Result]:
        """Return all results of this code on this machine, from all runs."""
        results = []
        for path in sorted(self.folder.glob(f"*-{self.key}.json")):
            fields = json.loads(path.read_text())
            results.append(Result(**(fields | {"cell": Cell(**fields["cell"])})))
        return results
