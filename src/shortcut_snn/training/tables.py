"""Metrics and tables: how figures are read, named, formatted and compared."""

import csv
import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._utils.files import original_text
from .._utils.markdown import markdown_table
from .._utils.statistics import with_interval
from ..measurement import LayerReport

# For a column of a file whose title is not its name: the title, and the factor by which its values are multiplied.
COLUMN_TITLES = {
    "acs": ("ACs", 1),
    "best_chosen_on": ("best epoch chosen on", 1),
    "bits": ("bits of the quantised", 1),
    "break_even_rate": ("break-even rate", 1),
    "energy_pj": ("energy, µJ", 1e-6),
    "gain": ("gradient, times that of the next layer", 1),
    "gradient_ratio_first_epoch": ("gradient, first layer / last: epoch 1", 1),
    "gradient_ratio_last_epoch": ("gradient, first layer / last: end", 1),
    "kept": ("input kept, %", 100),
    "lr": ("learning rate", 1),
    "macs": ("MACs", 1),
    "membrane_rms": ("gradient RMS of the membrane", 1),
    "norm": ("gradient norm at the spikes", 1),
    "peak_bytes_per_step": ("MiB / step", 2**-20),
    "quantised_energy_pj": ("quantised with memory, µJ", 1e-6),
    "rate": ("firing rate", 1),
    "relu_energy_pj": ("with ReLUs, µJ", 1e-6),
    "relu_inputs": ("inputs with ReLUs", 1),
    "relu_macs": ("MACs with ReLUs", 1),
    "saturated": ("saturated, %", 100),
    "seconds_per_epoch": ("s / epoch", 1),
    "seconds_per_step": ("s / step", 1),
    "silent": ("silent, %", 100),
    "step": ("steps", 1),
    "synapses": ("synapses, once each", 1),
    "total_energy_pj": ("with memory, µJ", 1e-6),
    "updates": ("membrane updates", 1),
    "varying": ("differing between samples, %", 100),
    "weight_rms": ("gradient RMS of the weights", 1),
}


def read_rows(path: Path, text: Collection[str] = ()) -> list[dict[str, Any]]:
    """Read the rows of a CSV file, such as ``RunFolder(folder).table("metrics")``; a missing file has none.

    Args:
        path: the file.
        text: columns whose cells are text. Other cells are floats where they can be read as one; an empty cell is NaN.

    Raises:
        ValueError: the file is not a CSV file.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "metrics.csv"
        >>> _ = path.write_text("epoch,validation_accuracy\\n1,0.5\\n2,\\n")
        >>> read_rows(path)
        [{'epoch': 1.0, 'validation_accuracy': 0.5}, {'epoch': 2.0, 'validation_accuracy': nan}]
    """
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = [
                {key: original_text(cell or "") for key, cell in line.items() if key} for line in csv.DictReader(file)
            ]
    except (UnicodeDecodeError, csv.Error):
        raise ValueError(f"{path} is damaged: it is not a CSV file") from None
    return [{key: cell if key in text else _float_or_text(cell) for key, cell in line.items()} for line in lines]


def _float_or_text(cell: str) -> float | str:
    try:
        return float(cell or "nan")
    except ValueError:
        return cell


def layer_rows(layers: Sequence[LayerReport]) -> list[dict[str, Any]]:
    """Return one row per layer for a CSV file; NaN becomes an empty cell."""
    return [
        {key: "" if value != value else value for key, value in dataclasses.asdict(layer).items()} for layer in layers
    ]


LAYER_TABLE_LEGEND = (
    "rate: spikes per neuron and time step; silent, always: neurons that never\n"
    "fire, or at every step; kept: how much of the input is left; grad.: RMS of the\n"
    "gradient of the weights and of the membrane potential; gain: by how much it\n"
    "grows from the next deeper layer"
)


def layer_table(layers: Sequence[LayerReport]) -> str:
    """Return a table that fits a terminal; :data:`LAYER_TABLE_LEGEND` explains its columns."""
    columns = {
        "rate": ("rate", ".3f"),
        "silent": ("silent", ".0%"),
        "saturated": ("always", ".0%"),
        "kept": ("kept", ".0%"),
        "weight_rms": ("grad. w", ".1e"),
        "membrane_rms": ("grad. v", ".1e"),
        "gain": ("gain", ".2f"),
    }
    rows = []
    for layer in layers:
        values = ((getattr(layer, name), spec) for name, (_, spec) in columns.items())
        rows.append([layer.layer, *("-" if math.isnan(value) else format(value, spec) for value, spec in values)])
    return markdown_table(["layer", *(title for title, _ in columns.values())], rows)


@dataclass(frozen=True)
class Metric:
    """The metric by which a task's networks are compared.

    Example:
        >>> Metric("accuracy", fraction=True).format(0.91234), Metric("mean_squared_error").format(0.0123456)
        ('91.23 %', '0.01235')
    """

    name: str
    higher_is_better: bool = True
    fraction: bool = False
    """Fractions are shown in per cent."""

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> "Metric":
        """Return the metric that ``result.json`` or ``comparison.json`` names."""
        return cls(str(result["metric"]), result.get("higher_is_better") is not False, result.get("fraction") is True)

    @property
    def title(self) -> str:
        """The name with spaces."""
        return self.name.replace("_", " ")

    def label(self, template: str = "{}") -> str:
        """Return the title in a template, followed by its unit, as for an axis."""
        return template.format(self.title) + (", %" if self.fraction else "")

    @property
    def scale(self) -> int:
        """The factor by which a value is multiplied for display."""
        return 100 if self.fraction else 1

    def format(self, value: Any) -> str:
        """Return a value with its unit; "-" if it is undefined."""
        if not isinstance(value, int | float) or math.isnan(value):
            return "-"
        return f"{100 * value:.2f} %" if self.fraction else format_value(float(value))

    def format_interval(self, mean: float, half: float, sign: str = "") -> str:
        """Return a mean and half its interval, both in the unit of display."""
        return "-" if math.isnan(mean) else with_interval(mean, half, 2 if self.fraction else None, sign)

    def is_better(self, value: float, than: float) -> bool:
        """Return whether a value is better than another."""
        return value > than if self.higher_is_better else value < than

    def is_above_chance(self, value: float, chance: float) -> bool:
        """Return whether a value is clearly better than chance."""
        return value > min(1.5 * chance, chance + 0.1) if self.higher_is_better else value < 0.9 * chance

    def describe_difference(self, difference: float, half: float) -> str:
        """Describe a mean difference, given half the width of its interval."""
        if math.isnan(difference) or math.isnan(half):
            return "too few runs to say"
        if abs(difference) <= half:
            return "no clear difference"
        return "clearly better" if self.is_better(difference, 0) else "clearly worse"

    def value_of(self, result: Mapping[str, Any], epoch: str) -> float:
        """Return the metric of a run in the unit of display: on test data, or else on validation data."""
        figures = result[f"test_{epoch}"] or result[f"validation_{epoch}"] or {}
        value = figures.get(self.name)
        return math.nan if value is None else self.scale * float(value)


def format_value(value: Any) -> str:
    """Return a number with three or four significant digits, and other values as text.

    Example:
        >>> format_value(40812.3), format_value(0.0123456), format_value(float("nan"))
        ('40,812', '0.01235', '-')
    """
    if value is None or value != value:
        return "-"
    if not isinstance(value, int | float) or isinstance(value, bool):
        return str(value)
    if abs(value) >= 1e15:
        return f"{value:.3g}"
    if abs(value) >= 1000 or value == int(value):
        return f"{round(value):,}"
    return f"{value:.4g}" if abs(value) >= 1e-3 else f"{value:.3g}"


def column_title(column: str) -> str:
    """Return the title of a file's column.

    Example:
        >>> column_title("peak_bytes_per_step"), column_title("test_last.mean_squared_error")
        ('MiB / step', 'test, last epoch: mean squared error')
    """
    if column in COLUMN_TITLES:
        return COLUMN_TITLES[column][0]
    group, dot, name = column.rpartition(".")
    part, underscore, epoch = group.partition("_")
    title = name.replace("_", " ")
    return f"{part}, {epoch} epoch: {title}" if dot and underscore else title


def format_duration(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds."""
    minutes, seconds_left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds_left:02}" if hours else f"{minutes}:{seconds_left:02}"
