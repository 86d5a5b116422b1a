"""Pictures as SVG in a page: in the page's colours, light or dark, and with every value under the pointer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from ...training import format_value

WIDTH, HEIGHT = 560, 300
COLOURS = 8
"""So many the page's style has."""
DOTS = 40
"""A line of more points than this shows no dots."""
CELLS = 40
"""A map of more epochs than this shows so many, evenly chosen."""
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """A line of a picture.

    Args:
        label: its name; empty where there is but one.
        points: x and y; where y is NaN, a gap.
        low: the lower end of a band around it, by point; none: no band.
        high: the upper end.
    """

    label: str
    points: Points
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass
class Scale:
    """From values to places along an axis."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    ticks: list[float] = field(default_factory=list)

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        if self.log:
            value = math.log10(value)
        share = (value - self.low) / (self.high - self.low or 1)
        return round(self.start + share * (self.end - self.start), 1)

    def knows(self, value: float) -> bool:
        """Whether a value can be drawn."""
        return math.isfinite(value) and (value > 0 or not self.log)


def scale(
    values: Sequence[float],
    start: float,
    end: float,
    *,
    log: bool = False,
    bounds: tuple[float, float] | None = None,
    whole: bool = False,
) -> Scale:
    """Return an axis that holds all values, with round ticks.

    Args:
        values: some may be NaN.
        start: where the lowest is drawn.
        end: where the highest is.
        log: by orders of magnitude, if there is a positive value.
        bounds: what the axis does not leave.
        whole: ticks are whole numbers.
    """
    log = log and any(value > 0 and math.isfinite(value) for value in values)
    known = [value for value in values if math.isfinite(value) and (value > 0 or not log)] or [0.0, 1.0]
    if log:
        first, last = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
        last = max(last, first + 1)
        every = max(1, math.ceil((last - first) / 5))
        return Scale(first, last, start, end, True, [10.0**power for power in range(first, last + 1, every)])
    low, high = min(known), max(known)
    room = 0.0 if whole else 0.05 * (high - low) or abs(high) * 0.1 or 1.0
    low, high = low - room, high + room
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    ticks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], integer=whole).tick_values(low, high)
    shown = [round(float(tick), 10) for tick in ticks if low - 1e-9 <= tick <= high + 1e-9]
    return Scale(low, high, start, end, False, shown)


def lines(
    title: str,
    series: Sequence[Line],
    x: str,
    *,
    log: bool = False,
    bounds: tuple[float, float] | None = None,
    mark: tuple[str, float] | None = None,
    names: Sequence[str] = (),
    whole: bool = True,
) -> Markup:
    """Draw lines; nothing where no value is known.

    Args:
        title: what is drawn, above the picture, with its unit.
        series: at most a few.
        x: what the axis below counts.
        log: on a logarithmic scale.
        bounds: what the values cannot leave, though a band may.
        mark: a level to mark, with its name.
        names: of the x values 1, 2, ...; none: they are numbers.
        whole: x values are whole numbers.
    """
    xs = [point[0] for line in series for point in line.points]
    ys = [value for line in series for value in (*(point[1] for point in line.points), *line.low, *line.high)]
    if not any(map(math.isfinite, ys)):
        return Markup("")
    bottom = HEIGHT - (84 if names else 36)
    across = scale(xs, 52, WIDTH - 10, whole=whole)
    up = scale([*ys, *([mark[1]] if mark else [])], bottom, 10, log=log, bounds=bounds)
    body = [_frame(across, up, x, names)]
    if mark and up.knows(mark[1]):
        body.append(
            Markup('<line class="mark" x1="52" x2="{0}" y1="{1}" y2="{1}"/><text x="56" y="{2}">{3}</text>').format(
                WIDTH - 10, up(mark[1]), up(mark[1]) - 4, mark[0]
            )
        )
    body += [_line(line, place % COLOURS, across, up, x, names) for place, line in enumerate(series)]
    return _figure(title, body, [line.label for line in series] if len(series) > 1 else [])


def _line(line: Line, colour: int, across: Scale, up: Scale, x: str, names: Sequence[str]) -> Markup:
    parts, path = [], ""
    if line.low:
        edges = [
            (place, low, high)
            for (place, _), low, high in zip(line.points, line.low, line.high, strict=True)
            if up.knows(low) and up.knows(high)
        ]
        there = " ".join(f"{across(place)},{up(high)}" for place, _, high in edges)
        back = " ".join(f"{across(place)},{up(low)}" for place, low, _ in reversed(edges))
        parts.append(Markup('<polygon class="band" points="{} {}"/>').format(there, back))
    pen = "M"
    for place, value in line.points:
        if not up.knows(value):
            pen = "M"
            continue
        path += f"{pen}{across(place)} {up(value)}"
        pen = "L"
        where = names[int(place) - 1] if names else f"{x} {format_value(float(f'{place:.4g}'))}"
        said = f"{line.label}, {where}: {format_value(value)}".removeprefix(", ")
        dot = Markup('<circle class="dot" r="2.5" cx="{}" cy="{}"/>').format(across(place), up(value))
        hit = Markup('<circle class="hit" r="7" cx="{}" cy="{}"><title>{}</title></circle>')
        parts += [dot] * (len(line.points) <= DOTS) + [hit.format(across(place), up(value), said)]
    return Markup('<g class="c{}"><path class="line" d="{}"/>{}</g>').format(colour, path, Markup("").join(parts))


def _frame(across: Scale, up: Scale, x: str, names: Sequence[str] = ()) -> Markup:
    """Axes, with a line and a number at every tick."""
    parts = []
    for tick in up.ticks:
        text = f"1e{round(math.log10(tick))}" if up.log and not 1e-3 <= tick <= 1e4 else format_value(tick)
        parts.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/><text class="end" x="46" y="{}">{}</text>'
            ).format(across.start, across.end, up(tick), up(tick), up(tick) + 4, text)
        )
    foot = up.start + 16
    if names:
        every = max(1, math.ceil(len(names) / 16))
        for place in range(0, len(names), every):
            here = across(place + 1)
            parts.append(
                Markup('<text class="end" transform="translate({} {}) rotate(-40)">{}</text>').format(
                    here + 4, foot - 4, names[place]
                )
            )
    else:
        for tick in across.ticks:
            parts.append(
                Markup('<text class="middle" x="{}" y="{}">{}</text>').format(across(tick), foot, format_value(tick))
            )
        parts.append(Markup('<text class="end" x="{}" y="{}">{}</text>').format(across.end, foot + 16, x))
    return Markup("").join(parts)


def bars(title: str, names: Sequence[str], series: Mapping[str, Sequence[float]]) -> Markup:
    """Draw a group of bars for each name, upwards from 0."""
    bottom = HEIGHT - 84
    values = [value for each in series.values() for value in each]
    across, up = Scale(0.5, len(names) + 0.5, 52, WIDTH - 10), scale([0.0, *values], bottom, 10, bounds=(0.0, math.inf))
    wide = 0.8 * (across(2) - across(1)) / len(series)
    parts = [_frame(across, up, "", names)]
    for place, (label, each) in enumerate(series.items()):
        drawn = [
            Markup('<rect x="{:.1f}" y="{}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>').format(
                across(at + 0.6) + place * wide,
                up(value),
                wide,
                bottom - up(value),
                f"{name}, {label}: {format_value(value)}",
            )
            for at, (name, value) in enumerate(zip(names, each, strict=True))
            if up.knows(value)
        ]
        parts.append(Markup('<g class="c{}">{}</g>').format(place, Markup("").join(drawn)))
    return _figure(title, parts, list(series))


def heat(
    title: str, names: Sequence[str], columns: Sequence[tuple[str, Sequence[float]]], *, ratio: bool, unit: str = ""
) -> Markup:
    """Draw a map: a row for each name, a column for each epoch.

    Args:
        title: what is drawn.
        names: of the rows, from above.
        columns: name and values by row, from left.
        ratio: values are ratios: one colour above 1, another below, full from a factor of 1000 on; else shares of the
            greatest.
        unit: behind each value.
    """
    every = max(1, math.ceil(len(columns) / CELLS))
    shown = [column for place, column in enumerate(columns) if place % every == 0 or column is columns[-1]]
    left, bottom = 112, HEIGHT - 36
    high, wide = (bottom - 6) / len(names), (WIDTH - 10 - left) / len(shown)
    top = max((value for _, values in shown for value in values if math.isfinite(value)), default=0.0) or 1.0
    parts = []
    for place, (label, values) in enumerate(shown):
        for row, (name, value) in enumerate(zip(names, values, strict=True)):
            strength = value / top
            if ratio:
                strength = abs(math.log10(value)) / 3 if 0 < value < math.inf else 1.0
            if not math.isfinite(strength):
                continue
            parts.append(
                Markup(
                    '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.2f}" height="{:.2f}" fill-opacity="{:.2f}">'
                    "<title>{}</title></rect>"
                ).format(
                    "c1" if ratio and value > 1 else "c0", left + place * wide, 6 + row * high, wide, high,
                    min(1.0, strength), f"{name}, {label}: {format_value(float(f'{value:.3g}'))}{unit}",
                )
            )  # fmt: skip
    every = max(1, math.ceil(len(names) / 18))
    for row in range(0, len(names), every):
        parts.append(
            Markup('<text class="end" x="{}" y="{:.1f}">{}</text>').format(
                left - 6, 10 + (row + 0.5) * high, names[row]
            )
        )
    every = max(1, math.ceil(len(shown) / 10))
    for place in range(0, len(shown), every):
        number = shown[place][0].rpartition(" ")[2]
        middle = left + (place + 0.5) * wide
        parts.append(Markup('<text class="middle" x="{:.1f}" y="{}">{}</text>').format(middle, bottom + 16, number))
    parts.append(Markup('<text class="end" x="{}" y="{}">epoch</text>').format(WIDTH - 10, bottom + 32))
    return _figure(title, parts, [])


def dots(
    title: str,
    rows: Sequence[tuple[str, Sequence[float], float, float]],
    mark: tuple[str, float] | None,
    bounds: tuple[float, float] | None,
) -> Markup:
    """Draw runs, their mean and its interval, a row for each method.

    Args:
        title: what the values are.
        rows: label, the runs' values, their mean, half the width of its interval (NaN: none).
        mark: a level to mark, with its name.
        bounds: what the values cannot leave, though an interval may.
    """
    left, step = 210, 30
    bottom = 12 + step * len(rows)
    values = [value for _, runs, mean, half in rows for value in (*runs, *_ends(mean, half))]
    across = scale([*values, *([mark[1]] if mark else [])], left, WIDTH - 14, bounds=bounds)
    parts = [
        Markup('<line class="grid" x1="{0}" x2="{0}" y1="6" y2="{1}"/><text class="middle" x="{0}" y="{2}">{3}</text>')
        .format(across(tick), bottom, bottom + 16, format_value(tick))
        for tick in across.ticks
    ]  # fmt: skip
    if mark and across.knows(mark[1]):
        parts.append(
            Markup('<line class="mark" x1="{0}" x2="{0}" y1="6" y2="{1}"/><text x="{2}" y="{1}">{3}</text>').format(
                across(mark[1]), bottom, across(mark[1]) + 4, mark[0]
            )
        )
    low, high = bounds or (-math.inf, math.inf)
    for place, (label, runs, mean, half) in enumerate(rows):
        y = 6 + step * (place + 0.5)
        ends = [min(max(end, low), high) for end in _ends(mean, half)]
        said = f"{label}: mean {format_value(mean)}" + (f" ± {format_value(half)}" if math.isfinite(half) else "")
        body = [Markup('<text class="end ink" x="{}" y="{}">{}</text>').format(left - 8, y + 4, _short(label))]
        if ends:
            line = Markup('<line class="line" x1="{}" x2="{}" y1="{}" y2="{}"/>')
            body.append(line.format(across(ends[0]), across(ends[1]), y, y))
        body += [
            Markup('<circle class="run" r="3.5" cx="{}" cy="{}"><title>{}</title></circle>').format(
                across(value), y, f"{label}, a run: {format_value(value)}"
            )
            for value in runs
            if across.knows(value)
        ]
        if across.knows(mean):
            body.append(
                Markup('<circle class="mean" r="5.5" cx="{}" cy="{}"><title>{}</title></circle>').format(
                    across(mean), y, said
                )
            )
        parts.append(Markup('<g class="c{}">{}</g>').format(place % COLOURS, Markup("").join(body)))
    return _figure(title, parts, [], bottom + 24)


def _ends(mean: float, half: float) -> list[float]:
    return [mean - half, mean + half] if math.isfinite(mean) and math.isfinite(half) else []


def _short(label: str, most: int = 30) -> str:
    return label if len(label) <= most else label[: most - 3] + "..."


def _figure(title: str, body: Sequence[Any], labels: Sequence[str], height: float = HEIGHT) -> Markup:
    legend = Markup("").join(
        Markup('<li class="c{}">{}</li>').format(place % COLOURS, label) for place, label in enumerate(labels)
    )
    return Markup(
        '<figure><figcaption>{0}</figcaption><svg role="img" aria-label="{0}" viewBox="0 0 {1} {2:.0f}">{3}</svg>'
        '<ul class="legend">{4}</ul></figure>'
    ).format(title, WIDTH, height, Markup("").join(body), legend)
