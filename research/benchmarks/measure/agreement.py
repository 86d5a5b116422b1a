"""Agreement of the contenders, which must compute the same before they are timed.

A sum in another order may flip a spike whose membrane potential lies at the threshold. An untrained deep network
amplifies one flipped spike until its logits are different. So agreement is judged twice: to rounding on a few small
images, where flips are rare (after a flip another batch is tried), and by rates, loss and gradient on the workload
that is timed.
"""

import gc
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from .. import tasks
from ..cell import Cell
from ..tasks import Observation, State

SMALL_BATCHES = (4, 5, 6)  # also the seeds of the images, so three different batches
SMALL_SIZE = 8  # pixels


@dataclass(frozen=True)
class Tolerance:
    """Largest differences that still agree.

    Args:
        name: name of the check.
        rate: difference of a layer's firing rate, in spikes per neuron and step.
        loss: relative difference of the loss.
        gradient: relative difference of the first layer's gradient norm.
        logits: root mean square difference over the logits' standard deviation; None if it is shown but not judged.
    """

    name: str
    rate: float
    loss: float
    gradient: float
    logits: float | None


ROUNDING = Tolerance("to rounding", rate=1e-4, loss=1e-3, gradient=1e-3, logits=1e-2)
STATISTICS = Tolerance("in statistics", rate=0.02, loss=0.05, gradient=0.5, logits=None)


@dataclass(frozen=True)
class Agreement:
    """Differences of a contender from the reference, in the units of :class:`Tolerance`."""

    contender: str
    check: str
    statistics: str
    rate: float
    loss: float
    gradient: float
    logits: float
    agreed: bool
    own_rate: float
    own_loss: float
    own_gradient: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return asdict(self)


def compare(
    contender: str,
    mine: Observation,
    shared: Observation,
    tolerance: Tolerance,
    statistics: str,
    trained: bool = True,
) -> Agreement:
    """Compare two contenders; a deployed network has no gradient."""
    if len(mine.rates) != len(shared.rates):
        raise ValueError(f"{contender} has {len(mine.rates)} layers of neurons, not {len(shared.rates)}")
    rate = max((abs(a - b) for a, b in zip(mine.rates, shared.rates, strict=True)), default=0.0)
    loss = abs(mine.loss - shared.loss) / max(abs(shared.loss), 1e-9)
    gradient = abs(mine.gradient - shared.gradient) / max(shared.gradient, 1e-9)
    spread = max(shared.logits.std().item(), 1e-9)
    logits = (mine.logits - shared.logits).square().mean().sqrt().item() / spread
    far = [rate > tolerance.rate, loss > tolerance.loss, gradient > tolerance.gradient]
    far.append(tolerance.logits is not None and logits > tolerance.logits)
    # A network without spikes agrees with anything.
    alive = min(shared.rates, default=0.0) > 0.0 and (shared.gradient > 0.0 or not trained)
    mean_rate = sum(mine.rates) / max(len(mine.rates), 1)
    return Agreement(
        contender, tolerance.name, statistics, rate, loss, gradient, logits,
        alive and not any(far), mean_rate, mine.loss, mine.gradient,
    )  # fmt: skip


def _checks(cell: Cell) -> list[tuple[list[Cell], Tolerance]]:
    """Return the checks of a cell: batches to try in order, and the tolerance."""
    if cell.part not in ("networks", "inference"):
        return [([cell], ROUNDING)]
    small = [replace(cell, batch=n, size=min(SMALL_SIZE, cell.size), precision="float32") for n in SMALL_BATCHES]
    return [(small, ROUNDING), ([cell], STATISTICS)]


def check(cell: Cell, device: str, names: Sequence[str]) -> Iterator[Agreement]:
    """Compare the contenders of a cell with the reference, first to rounding and then in statistics."""
    shared_name = tasks.SHARED[cell.part]
    for batches, tolerance in _checks(cell):
        waiting = [name for name in names if not name.startswith(tasks.DENSE)]
        for attempt in batches:
            state = tasks.shared_state(attempt)
            shared = _observe(attempt, shared_name, device, state)
            # The reference is compared with itself too: another build of it must compute the same.
            verdicts = {name: _verdicts(attempt, name, device, state, shared, tolerance) for name in waiting}
            waiting = [name for name in waiting if not all(v.agreed for v in verdicts[name])]
            last = attempt is batches[-1]
            for name, found in verdicts.items():
                if name not in waiting or last:
                    yield from found
            if not waiting:
                break


Observed = dict[str, Observation]


def _observe(cell: Cell, name: str, device: str, state: State) -> Observed:
    found = {}
    for statistics in ("batch", "running"):
        # Built again, since a step in training mode changes the running statistics.
        seen = tasks.build(cell, name, device, state).observe(training=statistics == "batch")
        if seen is not None:
            found[statistics] = seen
        gc.collect()
    return found


def _verdicts(
    cell: Cell, name: str, device: str, state: State, shared: Observed, tolerance: Tolerance
) -> list[Agreement]:
    mine = _observe(cell, name, device, state)
    return [compare(name, mine[s], shared[s], tolerance, s, cell.part != "inference") for s in mine]
