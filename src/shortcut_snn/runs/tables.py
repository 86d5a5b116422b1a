"""Figures as tables, for files and for a person."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from ..analysis.layers import LayerReport


def layer_rows(layers: Sequence[LayerReport]) -> list[dict[str, Any]]:
    """Return a row a layer, for a CSV file; what there is no value of is left empty."""
    return [
        {key: "" if value != value else value for key, value in dataclasses.asdict(layer).items()} for layer in layers
    ]


def layer_table(layers: Sequence[LayerReport]) -> str:
    """Return a table for a person."""
    columns = ["layer", "firing rate", "silent, %", "saturated, %", "gradient of weights", "of membrane", "gain"]
    return table(
        columns,
        [
            [
                layer.layer,
                f"{layer.rate:.3f}",
                f"{100 * layer.silent:.0f}",
                f"{100 * layer.saturated:.0f}",
                _number(layer.weight_rms, ".3e"),
                _number(layer.membrane_rms, ".3e"),
                _number(layer.gain, ".2f"),
            ]
            for layer in layers
        ],
    )


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def percent(value: float) -> str:
    """Return a fraction as per cent."""
    return f"{100 * value:.2f} %"


def figure(value: float | None, fraction: bool) -> str:
    """Return a metric as a person reads it."""
    if value is None or math.isnan(value):
        return "-"
    return percent(value) if fraction else f"{value:.4g}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, readable as it is."""
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    lines = [columns, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in lines
    )
