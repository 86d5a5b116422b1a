"""Profile a training step of this package by kind of operator: ``python -m benchmarks.step_profile``.

For each network, at T = 4, it prints the seconds of a step in each kind of operator, and the cost of moving the
activations: a "stream" reads or writes the current of every spiking layer once, at the speed of a plain copy.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch
from torch.profiler import ProfilerActivity, profile

from shortcut_snn.files import write_csv
from shortcut_snn.neurons import NormNeuron

from . import identity, tasks
from .cell import Cell
from .peers import this_package
from .plan import NETWORKS, PRECISIONS

# An operator's time in Python is that of its autograd node, which calls it.
KINDS = {
    "convolutions": ("aten::convolution", "aten::mkldnn_convolution", "aten::addmm", "aten::mm"),
    "batch statistics": ("batch_statistics",),
    "neuron forward": ("snn_norm_neuron", "snn::norm_neuron"),
    "neuron backward": ("norm_neuron_backward", "norm_neuron_defaultBackward"),
    # The convolutions inside them are operators of their own.
    "bits": ("pack_spikes", "spike_conv2d"),
}
WARM = 3
COPY_BYTES = 2**28


def kind(operator: str) -> str:
    """Return the kind of an operator; what fits several is the last."""
    return next((name for name, parts in reversed(KINDS.items()) if any(part in operator for part in parts)), "other")


def seconds_by_kind(cell: Cell, threads: int, steps: int = 5) -> dict[str, float]:
    """Return the seconds of a step by kind of operator, and in all."""
    torch.set_num_threads(threads)
    task = tasks.build(cell, "shortcut-snn", "cpu", tasks.shared_state(cell))
    task.warm()
    for _ in range(WARM):
        task.step()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(steps):
            task.step()
    found = dict.fromkeys([*KINDS, "other"], 0.0)
    for event in profiled.key_averages():
        found[kind(event.key)] += event.self_cpu_time_total / 1e6 / steps
    return found | {"step": sum(found.values())}


def stream_bytes(cell: Cell) -> int:
    """Return the bytes of all currents that reach spiking layers in a step."""
    network = this_package.network(cell)
    sizes: list[int] = []
    for layer in network.modules():
        if isinstance(layer, NormNeuron):
            layer.register_forward_hook(lambda _, inputs, __: sizes.append(inputs[0].numel()))
    with torch.no_grad():
        network(torch.rand(2, 3, cell.size, cell.size))
    return sum(sizes) // 2 * cell.batch * (2 if cell.precision == "bfloat16" else 4)


def seconds_per_byte(threads: int) -> float:
    """Return how long a plain copy takes, by byte read or written."""
    torch.set_num_threads(threads)
    source, target = torch.rand(COPY_BYTES // 4), torch.rand(COPY_BYTES // 4)

    def once() -> float:
        start = time.perf_counter()
        target.copy_(source)
        return time.perf_counter() - start

    return median(once() for _ in range(9)) / (2 * COPY_BYTES)


def rows(workloads: list[str], threads: int) -> Iterator[dict[str, str | float]]:
    """Return the figures of every network and precision."""
    stream = seconds_per_byte(threads)
    for name, width, batch in NETWORKS:
        for precision in PRECISIONS:
            cell = Cell("networks", name, width, batch, 4, precision)
            if cell.workload in workloads:
                found = seconds_by_kind(cell, threads)
                moved = stream_bytes(cell)
                own = found["step"] - found["convolutions"]
                yield (
                    {"network": cell.workload, "precision": precision}
                    | found
                    | {"stream_MB": moved / 1e6, "stream_s": moved * stream, "streams": own / (moved * stream)}
                )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    workloads = [f"{network}-{width}" for network, width, _ in NETWORKS]
    parser.add_argument("--networks", nargs="+", choices=workloads, default=workloads, metavar="NETWORK")
    parser.add_argument("--threads", type=int, default=identity.cpus())
    parser.add_argument("--out", type=Path, help="CSV to write too")
    options = parser.parse_args()
    found = []
    for row in rows(options.networks, options.threads):
        found.append({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
        print(", ".join(f"{key} {value}" for key, value in found[-1].items()))
    if options.out:
        write_csv(options.out, found)


if __name__ == "__main__":
    main()
