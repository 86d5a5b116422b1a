"""The cells to measure, in order."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from .cell import Cell, Precision
from .measure.contest import Effort

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
# Most figures of the documentation are of T = 4, so a run that is stopped early has it.
TIME_STEPS = (4, 8, 2)
# Network, width, batch.
NETWORKS = (("resnet18", 64, 16), ("resnet18", 16, 64), ("resnet34", 16, 64))
RATED_PARTS = ("networks", "inference")
NEURONS = (512, 2048, 4096)
OTHER_NEURONS = ("linear-clif", "linear-klif", "linear-ilif")


@dataclass(frozen=True)
class Plan:
    """Cells, and the number of measurements.

    Args:
        cells: cells in order.
        effort: number of turns and runs.
        contenders: names of the contenders; all if empty.
    """

    cells: tuple[Cell, ...]
    effort: Effort = field(default_factory=Effort)
    contenders: tuple[str, ...] = ()

    def only(self, keep: Callable[[Cell], bool]) -> "Plan":
        """Return the plan with some of its cells."""
        return Plan(tuple(filter(keep, self.cells)), self.effort, self.contenders)

    def at_rates(self, rates: Iterable[float]) -> "Plan":
        """Return the plan with each network once for each firing rate."""
        cells = [replace(cell, rate=rate) for cell in self.cells if cell.part in RATED_PARTS for rate in rates]
        return replace(self, cells=tuple(cells))


def _full() -> Iterator[Cell]:
    for time_steps in TIME_STEPS:
        for network, width, batch in NETWORKS:
            for precision in PRECISIONS:
                yield Cell("networks", network, width, batch, time_steps, precision)
        if time_steps == 4:
            for neurons in NEURONS:
                yield Cell("neuron", "linear-lif", neurons, batch=16, time_steps=500)
            for neuron in OTHER_NEURONS:
                yield Cell("neuron", neuron, NEURONS[1], batch=16, time_steps=500)
            for network, width, batch in NETWORKS[:2]:
                for precision in PRECISIONS:
                    yield Cell("method", network, width, batch, time_steps, precision)
            for network, width, batch in NETWORKS:
                for precision in PRECISIONS:
                    yield Cell("inference", network, width, batch, time_steps, precision)


def full() -> Plan:
    """Return the full plan."""
    return Plan(tuple(_full()))


def quick() -> Plan:
    """Return one small cell of each part, as a trial (about two minutes on an idle machine)."""
    cells = (
        Cell("networks", "resnet18", 16, batch=16, time_steps=2),
        Cell("neuron", "linear-lif", 256, batch=16, time_steps=100),
        Cell("method", "resnet18", 16, batch=16, time_steps=2),
        Cell("inference", "resnet18", 16, batch=16, time_steps=2),
    )
    return Plan(cells, Effort(rounds=2, timed=1, memory=1))
