"""Figures as tables, for files and for a person."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..diagnosis.layers import LayerReport
from ..diagnosis.statistics import with_interval
from ..markdown import markdown_table

# By column of a file: its name, and what its values are multiplied by.
COLUMN_TITLES = {
    "acs": ("ACs", 1),
    "best_chosen_on": ("best epoch chosen on", 1),
    "bits": ("bits of the quantised", 1),
    "break_even_rate": ("break-even rate", 1),
    "energy_pj": ("energy, nJ", 1e-3),
    "epoch": ("epoch", 1),
    "firing_rate": ("firing rate", 1),
    "gain": ("gradient, times that of the next layer", 1),
    "gradient_ratio_first_epoch": ("gradient, first layer / last: epoch 1", 1),
    "gradient_ratio_last_epoch": ("gradient, first layer / last: end", 1),
    "lr": ("learning rate", 1),
    "macs": ("MACs", 1),
    "membrane_rms": ("gradient RMS of the membrane", 1),
    "norm": ("gradient norm at the spikes", 1),
    "peak_bytes_per_step": ("MiB / step", 2**-20),
    "quantised_energy_pj": ("quantised with memory, nJ", 1e-3),
    "rate": ("firing rate", 1),
    "relu_energy_pj": ("with ReLUs, nJ", 1e-3),
    "relu_inputs": ("inputs with ReLUs", 1),
    "relu_macs": ("MACs with ReLUs", 1),
    "saturated": ("saturated, %", 100),
    "seconds_per_epoch": ("s / epoch", 1),
    "seconds_per_step": ("s / step", 1),
    "silent": ("silent, %", 100),
    "step": ("steps", 1),
    "synapses": ("synapses, once each", 1),
    "total_energy_pj": ("with memory, nJ", 1e-3),
    "updates": ("membrane updates", 1),
    "weight_rms": ("gradient RMS of the weights", 1),
}


def layer_rows(layers: Sequence[LayerReport]) -> list[dict[str, Any]]:
    """Return a row a layer, for a CSV file; what there is no value of is left empty."""
    return [
        {key: "" if value != value else value for key, value in dataclasses.asdict(layer).items()} for layer in layers
    ]


LAYER_TABLE_LEGEND = (
    "rate: spikes per neuron and time step; silent, always: neurons that never\n"
    "fire, or at every step; grad.: RMS of the gradient of the weights and of the\n"
    "membrane potential; gain: by how much it grows from the next deeper layer"
)


def layer_table(layers: Sequence[LayerReport]) -> str:
    """Return a table that fits a terminal; :data:`LAYER_TABLE_LEGEND` explains its columns."""
    columns = ["layer", "rate", "silent", "always", "grad. w", "grad. v", "gain"]
    return markdown_table(
        columns,
        [
            [
                layer.layer,
                f"{layer.rate:.3f}",
                f"{100 * layer.silent:.0f} %",
                f"{100 * layer.saturated:.0f} %",
                _number(layer.weight_rms, ".3e"),
                _number(layer.membrane_rms, ".3e"),
                _number(layer.gain, ".2f"),
            ]
            for layer in layers
        ],
    )


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


@dataclass(frozen=True)
class Metric:
    """What a task is judged by.

    Example:
        >>> Metric("accuracy", fraction=True).format(0.91234), Metric("mean_squared_error").format(0.0123456)
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
    def title(self) -> str:
        """Its name."""
        return self.name.replace("_", " ")

    def label(self, sentence: str = "{}") -> str:
        """Return its name within a few words, with its unit behind, as for an axis.

        Example:
            >>> Metric("accuracy", fraction=True).label("{}, last epoch")
            'accuracy, last epoch, %'
        """
        return sentence.format(self.title) + (", %" if self.fraction else "")

    @property
    def scale(self) -> int:
        """What a value is multiplied by to be shown."""
        return 100 if self.fraction else 1

    def format(self, value: Any) -> str:
        """Return a value with its unit."""
        if not isinstance(value, int | float) or math.isnan(value):
            return "-"
        return f"{100 * value:.2f} %" if self.fraction else format_value(float(value))

    def format_interval(self, mean: float, half: float, sign: str = "") -> str:
        """Return a mean, in the unit it is shown in, with its interval."""
        return "-" if math.isnan(mean) else with_interval(mean, half, 2 if self.fraction else None, sign)

    def is_better(self, value: float, than: float) -> bool:
        """Say whether a value is better than another."""
        return value > than if self.higher_is_better else value < than

    def is_above_chance(self, value: float, chance: float) -> bool:
        """Say whether a value is more than what a network that has learned nothing may have by luck.

        Example:
            >>> accuracy = Metric("accuracy", fraction=True)
            >>> accuracy.is_above_chance(0.12, 0.1), accuracy.is_above_chance(0.3, 0.1)
            (False, True)
        """
        return value > min(1.5 * chance, chance + 0.1) if self.higher_is_better else value < 0.9 * chance

    def describe_difference(self, difference: float, half: float) -> str:
        """Say whether a mean difference, with half the width of its interval, is one."""
        if math.isnan(difference) or math.isnan(half):
            return "too few runs to say"
        if abs(difference) <= half:
            return "no clear difference"
        return "clearly better" if self.is_better(difference, 0) else "clearly worse"

    def value_of(self, result: Mapping[str, Any], when: str) -> float:
        """Return a run's value, as it is shown: on test data or, where there are none, on validation data.

        Args:
            result: of the run.
            when: ``"last"`` or ``"best"`` epoch.
        """
        found = result[f"test_{when}"] or result[f"validation_{when}"] or {}
        return self.scale * float(found.get(self.name, math.nan))


def format_value(value: Any) -> str:
    """Return a figure with the digits that matter, and other things as they are.

    Example:
        >>> format_value(40812.3), format_value(0.0123456), format_value(float("nan"))
        ('40,812', '0.01235', '-')
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


def column_title(column: str) -> str:
    """Return the name of a file's column.

    Example:
        >>> column_title("peak_bytes_per_step"), column_title("test_last.mean_squared_error")
        ('MiB / step', 'test, last epoch: mean squared error')
    """
    if column in COLUMN_TITLES:
        return COLUMN_TITLES[column][0]
    part, _, rest = column.partition(".")
    part, _, when = part.partition("_") if rest else ("", "", "")
    name = (rest or column).replace("_", " ")
    return f"{part}, {when} epoch: {name}" if rest and when else name


def format_duration(seconds: float) -> str:
    """Return a time as a clock shows it.

    Example:
        >>> format_duration(8.4), format_duration(312), format_duration(4000)
        ('0:08', '5:12', '1:06:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
