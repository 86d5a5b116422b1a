"""``shortcut-snn energy``: operations, memory traffic and energy of a run's network by layer."""

import argparse

from .. import plots
from .._utils.files import remove_strays, write_csv
from ..energy.report import ACCESS, ACCUMULATE, MULTIPLY_ACCUMULATE, break_even_text, with_unit
from ..recipes import open_run
from ..recipes.runs import keeps_result
from ..training import RunFolder
from ..training.result import energy_rows, measure_task_energy


def run(options: argparse.Namespace) -> int:
    """Measure and print the energy; write ``energy.csv`` and ``energy.png`` into the run's folder."""
    task, data, _ = open_run(options.run, options.weights, options.changes)
    report = measure_task_energy(task, data, options.samples)
    rows, folder = energy_rows(report), RunFolder(options.run)
    print(f"{folder} ({options.weights} epoch), mean of {options.samples} samples or fewer; {report}")
    spiking, relu = report.energy, report.relu_energy
    print(
        f"\n{with_unit(spiking)} an input; {with_unit(relu)} with ReLUs, {relu / spiking:.2f} times as much\n"
        f"{ACCUMULATE} pJ per AC, {MULTIPLY_ACCUMULATE} pJ per MAC (45 nm, Horowitz, ISSCC 2014); not counted: "
        f"{report.updates:.4g} membrane updates, memory"
    )
    rate = ""
    if report.break_even_rate >= 0:
        rate = f"; it fires at {100 * report.firing_rate:.3g} %, they {break_even_text(report.break_even_rate)}"
    print(
        f"\nwith memory {with_unit(report.total_energy)}; the same network quantised to {report.bits} bits "
        f"{with_unit(report.quantised_energy)}{rate}\n"
        f"{ACCESS} pJ per 32-bit access, counted as in Lemaire et al. (2022); quantised: the same layers run once with "
        "activations of ceil(log2(T + 1)) bits (Yan et al., 2024)"
    )
    # The run's report shows these files, so they must be of the run's own network and data.
    if options.weights == "last" and keeps_result(options.changes):
        remove_strays(folder.path)
        write_csv(folder.table("energy"), rows)
        plots.energy(report, folder / "energy.png")
        print(f"\nwritten: {folder.table('energy')}, {folder / 'energy.png'}")
    else:
        print("\nnothing written: this is not the network of the last epoch on the run's own data")
    return 0
