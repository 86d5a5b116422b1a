"""What came of a run, as text for a person."""

import textwrap
from collections.abc import Mapping
from typing import Any

from .folder import RunFolder
from .tables import Metric


def summary_text(result: Mapping[str, Any], folder: RunFolder) -> str:
    """Return what came of a run, for a person."""
    metric = Metric.of(result)
    lines = []
    if result["test_last"]:
        best = metric.format(result["test_best"][metric.name])
        lines += [
            (f"test {metric.name}, last epoch", metric.format(result["test_last"][metric.name])),
            (f"test {metric.name}, epoch {result['best_epoch']}", f"{best} (chosen on {result['best_chosen_on']})"),
        ]
    if result["chance"] is not None:
        lines.append(("by chance", metric.format(result["chance"])))
    if result["firing_rate"] is not None:
        lines.append(("mean firing rate", f"{result['firing_rate']:.3f} spikes per neuron and time step"))
    if result["gradient_ratio_first_epoch"] is not None and result["gradient_ratio_last_epoch"] is not None:
        ratios = f"{result['gradient_ratio_first_epoch']:.3g} after the first epoch, "
        lines.append(
            ("gradient, first layer / last", f"{ratios}{result['gradient_ratio_last_epoch']:.3g} after the last")
        )
    if result.get("energy_pj") is not None:
        energy = f"{result['energy_pj'] / 1000:.4g} nJ; with ReLUs {result['relu_energy_pj'] / 1000:.4g} nJ (45 nm)"
        lines.append(("energy of an input", energy))
    if result.get("total_energy_pj") is not None:
        energy = f"{result['total_energy_pj'] / 1000:.4g} nJ; quantised {result['quantised_energy_pj'] / 1000:.4g} nJ"
        even = result["break_even_rate"]
        energy += "" if even is None else f"; they break even at a firing rate of {100 * even:.3g} %"
        lines.append(("the same with memory", energy))
    seconds, peak = result["seconds_per_step"], result["peak_bytes_per_step"]
    step = "" if seconds is None else f"; {seconds:.3g} s a step"
    step += "" if peak is None else f", with {peak / 2**20:.0f} MiB at its peak"
    lines += [
        ("time", f"{result['seconds_per_epoch']:.1f} s an epoch{step}"),
        ("pictures", f"curves.png and gradients.png in {folder}"),
        ("network that ships", f"{folder.network('last')}: no branches, the same outputs bit for bit"),
    ]
    width = max(len(name) for name, _ in lines)
    text = "\n".join(_wrapped(value, f"  {name:{width}}  ", " " * (width + 4)) for name, value in lines)
    return f"\n{text}{_at_chance(result)}"


def _wrapped(text: str, first: str = "", then: str = "") -> str:
    """Break lines as any terminal shows them, but no name of a file."""
    return textwrap.fill(
        text, 79, initial_indent=first, subsequent_indent=then, break_long_words=False, break_on_hyphens=False
    )


def _at_chance(result: Mapping[str, Any]) -> str:
    """Say so where nothing was learned."""
    chance, value = result["chance"], result["test_last"].get(result["metric"])
    if chance is None or value is None:
        return ""
    if Metric.of(result).is_above_chance(value, chance):
        return ""
    return "\n\n" + _wrapped(
        "The network is at chance: it has learned nothing. Try another --optimizer.lr, --training.warmup 0.1 or more "
        "--training.epochs; `shortcut-snn gradients` with the same recipe says whether its gradient vanishes or "
        "explodes."
    )
