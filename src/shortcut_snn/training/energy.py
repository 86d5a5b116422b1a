"""``shortcut-snn energy``: operations and energy of a run's network, layer by layer, against ReLUs."""

from pathlib import Path

from ..analysis.energy import ADDITION, MULTIPLY_ACCUMULATE, EnergyReport
from ..files import write_csv
from .evaluate import open_run
from .operations import ENERGY, energy_line, energy_rows, run_energy
from .report import table


def energy(folder: Path, weights: str = "last", batches: int = 4) -> EnergyReport:
    """Count on test batches of a run, print the table and write ``energy.csv`` into its folder.

    Raises:
        ValueError: no run there, or no batches.
    """
    if batches < 1:
        raise ValueError(f"--batches must be at least 1, got {batches}")
    module, loaders, recipe = open_run(folder, weights)
    report = run_energy(module, loaders, recipe.network.time_steps, batches)
    write_csv(folder / ENERGY, energy_rows(report))
    cells = [
        [row["layer"], *(f"{row[key]:.4g}" for key in ("additions", "multiplications", "energy_pj", "relu_energy_pj"))]
        for row in energy_rows(report)
    ]
    print(f"one image of {folder} ({weights} epoch), mean over {batches} test batches at most; energy in pJ:\n")
    print(table(["layer", "additions", "multiplications", "energy", "energy with ReLU"], cells))
    print(f"\n{energy_line(report)}")
    print(
        f"{ADDITION} pJ an addition, {MULTIPLY_ACCUMULATE} pJ a multiplication with addition (45 nm, Horowitz, ISSCC "
        f"2014); not counted: {report.updates:.4g} membrane updates, memory"
    )
    print(f"\nwritten: {folder / ENERGY}")
    return report
