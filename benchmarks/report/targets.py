"""The targets of this package, and the figures that decide whether they are met."""

from collections.abc import Callable
from dataclasses import dataclass

from ..plan import NEURONS
from .figures import Table

WIDE, THIN = "resnet18-64", "resnet18-16"


@dataclass(frozen=True)
class Target:
    """One target.

    Args:
        text: the two figures that are compared.
        limit: upper limit; None for a figure that is only shown.
        of: returns the figure under an allocator, or None if it was not measured.
    """

    text: str
    limit: float | None
    of: Callable[[str], float | None]


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def _difference(a: float | None, b: float | None) -> float | None:
    return a - b if a is not None and b is not None else None


def targets(table: Table) -> list[Target]:
    """Return the targets with the figures of a table."""

    def step(allocator: str, contender: str, workload: str, precision: str, time_steps: int = 4) -> float | None:
        return table.median(allocator, "step", contender, workload=workload, time_steps=time_steps, precision=precision)

    def memory(allocator: str, contender: str, time_steps: int) -> float | None:
        return table.median(allocator, "memory", contender, workload=WIDE, time_steps=time_steps)

    def growth(allocator: str, contender: str) -> float | None:
        return _difference(memory(allocator, contender, 8), memory(allocator, contender, 2))

    def memory_to(library: str) -> Callable[[str], float | None]:
        return lambda a: _ratio(memory(a, "shortcut-snn", 8), memory(a, library, 8))

    def growth_to(library: str) -> Callable[[str], float | None]:
        return lambda a: _ratio(growth(a, "shortcut-snn"), growth(a, library))

    def neuron(allocator: str, contender: str, neurons: int) -> float | None:
        return table.median(
            allocator, "step", contender, part="neuron", workload=f"linear-lif-{neurons}", time_steps=500
        )

    def to_lower_bound(workload: str, precision: str) -> Callable[[str], float | None]:
        return lambda a: _ratio(
            step(a, "shortcut-snn", workload, precision), step(a, "convolutions only", workload, precision)
        )

    def to_peer(workload: str, precision: str) -> Callable[[str], float | None]:
        return lambda a: _ratio(step(a, "shortcut-snn", workload, precision), step(a, "peer", workload, precision))

    def best_to_peer(workload: str) -> Callable[[str], float | None]:
        def ratio(allocator: str) -> float | None:
            times = [step(allocator, "shortcut-snn", workload, precision) for precision in ("float32", "bfloat16")]
            return _ratio(min((s for s in times if s), default=None), step(allocator, "peer", workload, "float32"))

        return ratio

    def to_library(library: str, neurons: int) -> Callable[[str], float | None]:
        return lambda a: _ratio(neuron(a, "shortcut-snn", neurons), neuron(a, library, neurons))

    def share(workload: str, precision: str) -> Callable[[str], float | None]:
        def extra(allocator: str) -> float | None:
            with_, without = (
                table.median(
                    allocator, "step", name, part="method", workload=workload, time_steps=4, precision=precision
                )
                for name in ("with branches", "without branches")
            )
            return _ratio(_difference(with_, without), with_)

        return extra

    def used(allocator: str, contender: str, workload: str, precision: str) -> float | None:
        return table.median(
            allocator, "inference", contender, part="inference", workload=workload, time_steps=4, precision=precision
        )

    def used_to(contender: str, workload: str, precision: str) -> Callable[[str], float | None]:
        return lambda a: _ratio(
            used(a, "shortcut-snn, deployed", workload, precision), used(a, contender, workload, precision)
        )

    def best_used(workload: str) -> Callable[[str], float | None]:
        def ratio(allocator: str) -> float | None:
            times = [
                used(allocator, "shortcut-snn, deployed", workload, precision) for precision in ("float32", "bfloat16")
            ]
            return _ratio(
                min((s for s in times if s), default=None), used(allocator, "spikingjelly", workload, "float32")
            )

        return ratio

    found = []
    for workload, limits in ((WIDE, (1.12, 1.2)), (THIN, (1.25, 1.4))):
        for precision, limit in zip(("float32", "bfloat16"), limits, strict=True):
            found.append(
                Target(
                    f"training step / convolutions only, {workload}, T = 4, {precision}",
                    limit,
                    to_lower_bound(workload, precision),
                )
            )
    for workload, limit in ((WIDE, 0.83), (THIN, 0.62)):
        for precision in ("float32", "bfloat16"):
            text = f"training step / best peer, {workload}, T = 4, {precision}"
            found.append(Target(text, limit, to_peer(workload, precision)))
    for workload, limit in ((WIDE, 0.5), (THIN, 0.35)):
        text = f"the faster precision / best peer in float32, {workload}, T = 4"
        found.append(Target(text, limit, best_to_peer(workload)))
    for library, most, growing in (("spikingjelly", 0.3, 0.2), ("spikingjelly, memory-optimised", None, None)):
        text = f"peak memory of a step / {library}, {WIDE}, T = 8, float32"
        found.append(Target(text, most, memory_to(library)))
        text = f"growth of that memory from T = 2 to 8 / {library}"
        found.append(Target(text, growing, growth_to(library)))
    for library, limit in (("spikingjelly", 0.5), ("snntorch", 0.2)):
        for neurons in NEURONS:
            text = f"Linear({neurons}, {neurons}) + LIF / {library}"
            found.append(Target(text, limit, to_library(library, neurons)))
    for workload in (WIDE, THIN):
        for precision in ("float32", "bfloat16"):
            text = f"branches' share of a step, {workload}, T = 4, {precision}"
            found.append(Target(text, 0.02, share(workload, precision)))
    for workload in (WIDE, THIN):
        for precision in ("float32", "bfloat16"):
            what = f"{workload}, T = 4, {precision}"
            found.append(
                Target(f"inference, deployed / spikingjelly, {what}", 0.5, used_to("spikingjelly", workload, precision))
            )
            found.append(
                Target(
                    f"inference, deployed / convolutions only, {what}",
                    None,
                    used_to("convolutions only", workload, precision),
                )
            )
        text = f"inference, the faster precision / spikingjelly in float32, {workload}, T = 4"
        found.append(Target(text, 0.5, best_used(workload)))
    return found
