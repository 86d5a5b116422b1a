"""Measure the cells of a plan that have no result."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import identity, tasks
from .measure.contest import contest
from .measure.process import Worker, WorkerFailed
from .plan import Plan
from .results import Result, Store

Log = Callable[[str], None]


def measure(plan: Plan, store: Store, device: str, threads: int, log: Log) -> None:
    """Measure each cell of a plan, unless the store has its result."""
    begin = time.monotonic()
    todo = [cell for cell in plan.cells if not store.path(cell).exists()]
    log(f"{len(plan.cells)} cells, {len(plan.cells) - len(todo)} of them measured before; {threads} threads, {device}")
    for index, cell in enumerate(todo):
        log(f"[{index + 1}/{len(todo)}] {cell.slug} ({_minutes(time.monotonic() - begin)} so far)")
        with tempfile.TemporaryDirectory() as folder:
            state = str(Path(folder) / "state.pt")
            wanted = [name for name in tasks.names(cell) if not plan.contenders or name in plan.contenders]
            try:
                with Worker(threads) as worker:
                    agreement = worker.ask("check", cell=cell.to_dict(), contenders=wanted, device=device, state=state)
            except WorkerFailed as failure:
                log(f"  left out, the check failed: {failure}")
                continue
            names, refused = _verdict(wanted, agreement)
            for line in agreement_lines(agreement):
                log(f"  {line}")
            figures_of = contest(cell, names, state, device, threads, plan.effort, log)
            about = store.about | {"commit": identity.commit(), "when": time.strftime("%Y-%m-%d %H:%M")}
            store.write(
                Result(cell, figures_of | {name: {"error": why} for name, why in refused.items()}, agreement, about)
            )
            for name, figures in figures_of.items():
                if seconds := sorted(figures.get(cell.timed[0], [])):
                    log(f"    {name}: {seconds[len(seconds) // 2]:.4f} s, {cell.timed[0]}")
    log(f"measured in {_minutes(time.monotonic() - begin)}")


def _verdict(wanted: list[str], agreement: list[dict[str, Any]]) -> tuple[list[str], dict[str, str]]:
    """Return the contenders to time, and for each of the others the reason why not."""
    refused = {a["contender"]: f"not timed: does not agree {a['check']}" for a in agreement if not a["agreed"]}
    return [name for name in wanted if name not in refused], refused


def agreement_lines(agreement: list[dict[str, Any]]) -> list[str]:
    """Return the checks as text."""
    return [
        f"{'agrees' if a['agreed'] else 'DIFFERS'} {a['check']}, {a['statistics']} statistics: {a['contender']}: "
        f"loss {a['own_loss']:.5f}, rate {a['own_rate']:.5f}, gradient {a['own_gradient']:.4g}; differences: "
        f"loss {a['loss']:.0e}, rate {a['rate']:.0e}, gradient {a['gradient']:.0e}, logits {a['logits']:.0e}"
        for a in agreement
    ]


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"
