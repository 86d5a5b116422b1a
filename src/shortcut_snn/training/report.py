"""Results for a person, on the terminal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

PICTURES = "curves.png and gradients.png"


def percent(value: float) -> str:
    """Return a fraction as per cent."""
    return f"{100 * value:.2f} %"


def tell_result(result: dict[str, Any], folder: Path, tell: Callable[[str], None]) -> None:
    """Say what came of a run."""
    lines = [
        ("test accuracy, last epoch", percent(result["test_accuracy_last"])),
        (
            f"test accuracy, epoch {result['best_epoch']}",
            f"{percent(result['test_accuracy_best'])} (chosen on {result['best_chosen_on']})",
        ),
        ("mean firing rate", f"{result['firing_rate']:.3f} spikes per neuron and time step"),
        (
            "gradient, first layer / last",
            f"{result['gradient_ratio_first_epoch']:.3g} after the first epoch, "
            f"{result['gradient_ratio_last_epoch']:.3g} after the last",
        ),
        (
            "energy of an image",
            f"{result['energy_pj'] / 1000:.4g} nJ; with ReLUs {result['relu_energy_pj'] / 1000:.4g} nJ (45 nm)",
        ),
        ("time", f"{result['seconds_per_epoch']:.1f} s an epoch{_step(result)}"),
        ("pictures", f"{PICTURES} in {folder}"),
        ("network that ships", f"{folder / 'network.safetensors'}: no branches, the same outputs bit for bit"),
    ]
    width = max(len(name) for name, _ in lines)
    tell("\n" + "\n".join(f"  {name:{width}}  {text}" for name, text in lines))


def _step(result: dict[str, Any]) -> str:
    """What a step costs, as far as it is known."""
    seconds, peak = result.get("seconds_per_step"), result.get("peak_bytes_per_step")
    time = "" if seconds is None else f"; {seconds:.3g} s a step"
    return time if peak is None else f"{time}, with {peak / 2**20:.0f} MiB at its peak"


def table(columns: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown, readable as it is."""
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    lines = [columns, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in lines
    )
