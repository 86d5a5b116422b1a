"""A wrapper in one call, for tests: a layout written down, and heads on its taps."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from shortcut_snn import Shortcut, wrap
from shortcut_snn.components import gradient as gradients
from shortcut_snn.method import Branches, Layout, Method, Tap
from shortcut_snn.method.placement import resolve


def wrapped(
    network: nn.Module,
    taps: str | Sequence[str] | Sequence[Tap] = "stages",
    *,
    num_classes: int,
    example: Any = None,
    time_axis: int | None = 0,
    channel_axis: int | None = None,
    extract: Any = None,
    head: Any = None,
    gradient: str | None = None,
    **fields: Any,
) -> Shortcut:
    """Wrap a network, with branches at some places, whose layout has some fields."""
    if isinstance(taps, str) or not all(isinstance(tap, Tap) for tap in taps):
        taps = [Tap(name, time_axis, channel_axis, extract) for name in resolve(network, taps)]  # type: ignore[arg-type]
    layout = Layout(num_classes=num_classes, taps=tuple(taps), **fields)  # type: ignore[arg-type]
    method = None if gradient is None else Method(Branches() if taps else None, gradient=gradients.make(gradient))
    return wrap(network, layout, method, example=example, head=head, log=lambda line: None)
