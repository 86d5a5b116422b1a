"""Medians of what was measured, and their ratios."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from ..cell import Cell
from ..results import Result
from ..tasks import DENSE

QUANTITIES = {"step": "s", "inference": "s", "memory": "bytes"}
LIBRARIES = ("spikingjelly", "snntorch", "norse")


@dataclass(frozen=True)
class Figure:
    """One quantity of one contender.

    Args:
        cell: the workload.
        contender: its name.
        quantity: ``"step"`` (forward, loss and backward), ``"inference"`` (a batch) or ``"memory"`` (peak of a
            step over idle).
        unit: unit of the next three.
        median: median of the samples.
        lowest: smallest sample.
        highest: largest sample.
        samples: number of samples.
        dense: median of the dense convolutions alone, in the better layout, or None.
        peer: median of the best peer, or None; without branches, in the part ``"method"``.
        best_peer: name of that peer.
    """

    cell: Cell
    contender: str
    quantity: str
    unit: str
    median: float
    lowest: float
    highest: float
    samples: int
    dense: float | None = None
    peer: float | None = None
    best_peer: str = ""

    @property
    def to_dense(self) -> float | None:
        """Ratio to the dense convolutions."""
        return self.median / self.dense if self.dense else None

    @property
    def to_peer(self) -> float | None:
        """Ratio to the best peer."""
        return self.median / self.peer if self.peer else None


def is_peer(contender: str) -> bool:
    """Return whether contenders of this package are compared with this one."""
    return contender.startswith(LIBRARIES) or contender == "without branches"


def figures(results: Iterable[Result]) -> list[Figure]:
    """Return all figures of some results."""
    found = []
    for result in results:
        for quantity, unit in QUANTITIES.items():
            samples = {name: values[quantity] for name, values in result.contenders.items() if values.get(quantity)}
            medians = {name: statistics.median(values) for name, values in samples.items()}
            dense = [median for name, median in medians.items() if name.startswith(DENSE)]
            peers = {name: median for name, median in medians.items() if is_peer(name)}
            best = min(peers, key=lambda name: peers[name], default="")
            found += [
                Figure(
                    result.cell,
                    name,
                    quantity,
                    unit,
                    medians[name],
                    min(values),
                    max(values),
                    len(values),
                    min(dense, default=None),
                    peers.get(best),
                    best,
                )
                for name, values in samples.items()
            ]
    return found
