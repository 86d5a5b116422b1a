"""``shortcut-snn energy``: operations, memory and energy of a run's network by layer, against ReLUs and few bits."""

import argparse
from typing import Any

from ..diagnosis import plots
from ..energy import ACCESS, ACCUMULATE, MULTIPLY_ACCUMULATE
from ..recipes import open_run
from ..recipes.build import is_network_of
from ..training import (
    ENERGY_SAMPLES,
    RunFolder,
    energy_line,
    energy_rows,
    markdown_table,
    measure_task_energy,
    memory_energy_line,
)
from ._parser import at_least_one

HELP = "operations and energy of a trained network"
DESCRIPTION = (
    "Count the accumulates (ACs) and multiply-accumulates (MACs) of an inference from the spikes of a run's network. "
    "Print their energy in 45 nm, compared with the same network with ReLUs. Print the energy with memory accesses, "
    "compared with the same network quantised to ceil(log2(T + 1)) bits, and the firing rate at which both break even. "
    "For the weights of the last epoch, write energy.csv and energy.png into the run's folder."
)
RUN = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--samples", type=int, default=ENERGY_SAMPLES, help="test samples to count on, drawn at random but fixed"
    )


def run(options: argparse.Namespace) -> int:
    """Count, print the tables and write ``energy.csv`` and ``energy.png`` into the run's folder.

    Raises:
        ValueError: no run there, or nothing to count.
    """
    at_least_one(options, "samples")
    task, data, recipe = open_run(options.run, options.weights, options.changes)
    report = measure_task_energy(task, data, options.samples)
    if report is None:
        raise ValueError(f"the network of {options.run} has no convolutions or linear layers to count operations of")
    rows = energy_rows(report)
    folder = RunFolder(options.run)
    # What the run's report shows is of its own network and data.
    own = options.weights == "last" and is_network_of(folder, recipe, data=True)
    if own:
        folder.write_rows("energy", rows)
        plots.energy(report, folder / "energy.png")
    print(f"one input of {folder} ({options.weights} epoch), mean over {options.samples} at most; energy in pJ:\n")
    columns = {"ACs": "acs", "MACs": "macs", "energy": "energy_pj"}
    print(_table(rows, columns | {"with ReLUs": "relu_energy_pj"}))
    print(f"\n{energy_line(report)}")
    print(
        f"{ACCUMULATE} pJ per AC, {MULTIPLY_ACCUMULATE} pJ per MAC (45 nm, Horowitz, ISSCC 2014); not counted: "
        f"{report.updates:.4g} membrane updates, memory\n"
    )
    columns = {"with memory": "total_energy_pj", "quantised": "quantised_energy_pj", "firing rate": "firing_rate"}
    print(_table(rows, columns | {"break-even": "break_even_rate"}))
    print(f"\n{memory_energy_line(report)}")
    print(
        f"{ACCESS} pJ for 32 bits read or written, accesses as Lemaire et al. (2022) count them; quantised: the same "
        "layers once, as many bits as T time steps tell apart (Yan et al., 2024)"
    )
    written = f"written: {folder.table('energy')}, {folder / 'energy.png'}"
    other = "nothing written: this is not the network after the last epoch on the run's own data"
    print(f"\n{written if own else other}")
    return 0


def _table(rows: list[dict[str, Any]], columns: dict[str, str]) -> str:
    """Return columns of rows under other names."""
    cells = [
        [row["layer"], *(f"{row[key]:.4g}" if row[key] != "" else "-" for key in columns.values())] for row in rows
    ]
    return markdown_table(["layer", *columns], cells)
