"""``shortcut-snn energy``: operations and energy of a run's network, layer by layer, against ReLUs."""

import argparse

from ..analysis.energy import ADDITION, MULTIPLY_ACCUMULATE
from ..recipes import open_run
from ..runs import RunFolder
from ..runs.energy import SAMPLES, energy_line, energy_rows, run_energy
from ..runs.tables import table

HELP = "operations and energy of a trained network"
DESCRIPTION = (
    "Count additions and multiplications of an inference from a run's spikes, and their energy in 45 nm, against the "
    "same network with ReLUs. After the last epoch, energy.csv in the run's folder."
)
RUN = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--samples", type=int, default=SAMPLES, help="test samples to count on, drawn at random but fixed"
    )


def run(options: argparse.Namespace) -> int:
    """Count, print the table and write ``energy.csv`` into the run's folder.

    Raises:
        ValueError: no run there, or nothing to count.
    """
    if options.samples < 1:
        raise ValueError(f"--samples must be at least 1, got {options.samples}")
    task, data, _ = open_run(options.run, options.weights, options.changes)
    report = run_energy(task, data, options.samples)
    if report is None:
        raise ValueError(f"the network of {options.run} has no convolutions or linear layers to count operations of")
    rows = energy_rows(report)
    folder = RunFolder(options.run)
    if options.weights == "last":
        # The run's own, which its report shows.
        folder.write_rows("energy", rows)
    keys = ("additions", "multiplications", "energy_pj", "relu_energy_pj")
    cells = [[row["layer"], *(f"{row[key]:.4g}" for key in keys)] for row in rows]
    print(f"one input of {folder} ({options.weights} epoch), mean over {options.samples} at most; energy in pJ:\n")
    print(table(["layer", "additions", "multiplied", "energy", "with ReLUs"], cells))
    print(f"\n{energy_line(report)}")
    print(
        f"{ADDITION} pJ an addition, {MULTIPLY_ACCUMULATE} pJ a multiplication with addition (45 nm, Horowitz, ISSCC "
        f"2014); not counted: {report.updates:.4g} membrane updates, memory"
    )
    if options.weights == "last":
        print(f"\nwritten: {folder.table('energy')}")
    return 0
