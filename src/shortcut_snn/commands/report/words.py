"""Names and numbers as a person reads them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...analysis.plots import percent
from ...analysis.statistics import with_interval
from .html import Table
from .reading import Row

# By column of a file: its name, and what its values are multiplied by.
COLUMNS = {
    "best_chosen_on": ("best epoch chosen on", 1),
    "energy_pj": ("energy, nJ", 1e-3),
    "epoch": ("epoch", 1),
    "firing_rate": ("firing rate", 1),
    "gain": ("gradient, times that of the next layer", 1),
    "gradient_ratio_first_epoch": ("gradient, first layer / last: epoch 1", 1),
    "gradient_ratio_last_epoch": ("gradient, first layer / last: end", 1),
    "lr": ("learning rate", 1),
    "membrane_rms": ("gradient RMS of the membrane", 1),
    "norm": ("gradient norm at the spikes", 1),
    "peak_bytes_per_step": ("MiB / step", 2**-20),
    "rate": ("firing rate", 1),
    "relu_energy_pj": ("with ReLUs, nJ", 1e-3),
    "relu_multiplications": ("multiplications with ReLUs", 1),
    "saturated": ("saturated, %", 100),
    "seconds_per_epoch": ("s / epoch", 1),
    "seconds_per_step": ("s / step", 1),
    "silent": ("silent, %", 100),
    "step": ("steps", 1),
    "weight_rms": ("gradient RMS of the weights", 1),
}


@dataclass(frozen=True)
class Metric:
    """What a task is judged by.

    Example:
        >>> Metric("accuracy", fraction=True).show(0.91234), Metric("mean_squared_error").show(0.0123456)
        ('91.23 %', '0.01235')
    """

    name: str
    higher_is_better: bool = True
    fraction: bool = False

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> "Metric":
        """Return the metric that ``result.json`` or ``comparison.json`` names."""
        return cls(str(about["metric"]), about.get("higher_is_better") is not False, about.get("fraction") is True)

    @property
    def words(self) -> str:
        """Its name."""
        return self.name.replace("_", " ")

    def label(self, sentence: str = "{}") -> str:
        """Return its name within a few words, with its unit behind."""
        return percent(sentence.format(self.name), self.fraction)

    @property
    def scale(self) -> int:
        """What a value is multiplied by to be shown."""
        return 100 if self.fraction else 1

    def show(self, value: Any) -> str:
        """Return a value with its unit."""
        if not isinstance(value, int | float) or math.isnan(value):
            return "-"
        return f"{100 * value:.2f} %" if self.fraction else show(float(value))

    def within(self, mean: float, half: float, sign: str = "") -> str:
        """Return a mean, in the unit it is shown in, with its interval."""
        return "-" if math.isnan(mean) else with_interval(mean, half, 2 if self.fraction else None, sign)

    def better(self, value: float, than: float) -> bool:
        """Say whether a value is better than another."""
        return value > than if self.higher_is_better else value < than


def show(value: Any) -> str:
    """Return a figure with the digits that matter, and other things as they are.

    Example:
        >>> show(40812.3), show(0.0123456), show(1.2345e-07), show(float("nan")), show("cifar10")
        ('40,812', '0.01235', '1.23e-07', '-', 'cifar10')
    """
    if value is None:
        return "-"
    if not isinstance(value, int | float) or isinstance(value, bool):
        return str(value)
    if math.isnan(value):
        return "-"
    if value == int(value) if math.isfinite(value) else False:
        return f"{int(value):,}" if abs(value) < 1e15 else f"{value:.3g}"
    if abs(value) >= 1000:
        return f"{value:,.0f}" if abs(value) < 1e15 else f"{value:.3g}"
    return f"{value:.4g}" if abs(value) >= 1e-3 else f"{value:.3g}"


def human(column: str) -> str:
    """Return the name of a file's column.

    Example:
        >>> human("peak_bytes_per_step"), human("test_last.mean_squared_error")
        ('MiB / step', 'test, last epoch: mean squared error')
    """
    if column in COLUMNS:
        return COLUMNS[column][0]
    part, _, rest = column.partition(".")
    part, _, when = part.partition("_") if rest else ("", "", "")
    name = (rest or column).replace("_", " ")
    return f"{part}, {when} epoch: {name}" if rest and when else name


def all_columns(rows: Sequence[Row], names: bool = True) -> Table:
    """Return rows as a table of all their columns.

    Args:
        rows: of numbers and text; epochs are counted from 0 in files, and from 1 here.
        names: whether columns have a person's names; those that are layers keep theirs.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))

    def cell(column: str, value: Any) -> str:
        if isinstance(value, str):
            return value
        return show(value + 1 if column == "epoch" else value * COLUMNS.get(column, ("", 1))[1])

    return Table(
        [human(column) if names else column for column in columns],
        [[cell(column, row.get(column, math.nan)) for column in columns] for row in rows],
    )
