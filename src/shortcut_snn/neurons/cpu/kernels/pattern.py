"""Between numbers per channel and the elements of a tile.

Element m of a time step belongs to channel ``(m // run) % channels``: run is 1 in channels-last memory and H * W in
contiguous memory. Channels-last, a thread writes numbers per channel down with their first ones repeated behind the
last, TILE more in all, so a tile's numbers stand there in one piece; sums per channel are kept in the same form.
"""

from functools import cache
from typing import Any

from .build import TILE, loop, reduction
from .memory import PARTIAL, SOURCE, load, shifted, store


@cache
def make_cycle(scope: int) -> Any:
    """Make ``cycle(source, target, rows, run, channels)``: rows of numbers per channel, the first ones repeated.

    Where channels fill whole tiles, no tile reads behind the last, and it returns the source.
    """

    @loop
    def cycle(source: Any, target: Any, rows: int, run: int, channels: int) -> Any:
        if run != 1 or channels % TILE == 0:
            return source
        for k in range(rows):
            c = 0
            for i in range(channels + TILE):
                store(target, k * (channels + TILE) + i, load(source, k * channels + c, SOURCE), scope)
                c += 1
                if c == channels:
                    c = 0
        return target

    return cycle


@cache
def make_spread(scope: int) -> Any:
    """Make ``spread(source, row, base, n, run, channels)``: a tile's numbers, written to ``row`` if need be."""

    @loop
    def spread(source: Any, row: Any, base: int, n: int, run: int, channels: int) -> Any:
        if run == 1:
            return shifted(source, base % channels)
        j = 0
        while j < n:
            m = base + j
            value = load(source, (m // run) % channels, SOURCE)
            count = min(run - m % run, n - j)
            if count == TILE:
                for i in range(TILE):
                    store(row, i, value, scope)
            else:
                for i in range(count):
                    store(row, j + i, value, scope)
            j += count
        return row

    return spread


@cache
def make_spread_to(scope: int) -> Any:
    """Make ``spread(source, row, base, n, run, channels)``, which writes to ``row`` in either layout."""
    spread, copy = make_spread(scope), make_copy(SOURCE, scope)

    @loop
    def spread_to(source: Any, row: Any, base: int, n: int, run: int, channels: int) -> None:
        if run == 1:
            copy(shifted(source, base % channels), row, n)
        else:
            spread(source, row, base, n, run, channels)

    return spread_to


@loop
def place(sums: Any, base: int, run: int, channels: int) -> Any:
    """Return where a tile's sums go."""
    return shifted(sums, base % channels) if run == 1 else sums


@cache
def make_fold(scope: int) -> Any:
    """Make ``fold(sums, partial, base, n, run, channels)``: add to the channels' float64 sums and clear."""

    @reduction
    def fold(sums: Any, partial: Any, base: int, n: int, run: int, channels: int) -> None:
        if run == 1:
            for c in range(channels):
                store(partial, c, load(partial, c, PARTIAL) + load(sums, c, scope), PARTIAL)
            c = 0
            for i in range(channels, channels + TILE):
                store(partial, c, load(partial, c, PARTIAL) + load(sums, i, scope), PARTIAL)
                c += 1
                if c == channels:
                    c = 0
        else:
            j = 0
            while j < n:
                m = base + j
                c = (m // run) % channels
                count = min(run - m % run, n - j)
                total = 0.0
                for i in range(count):
                    total += load(sums, j + i, scope)
                store(partial, c, load(partial, c, PARTIAL) + total, PARTIAL)
                j += count

    return fold


@cache
def make_clear(scope: int, zero: Any) -> Any:
    """Make ``clear(target, n)``: zero a buffer of this alias scope; ``zero`` is of its type."""

    @loop
    def clear(target: Any, n: int) -> None:
        for j in range(n):
            store(target, j, zero, scope)

    return clear


@cache
def make_copy(source_scope: int, target_scope: int) -> Any:
    """Make ``copy(source, target, n)``: copy a buffer, converting its type."""

    @loop
    def copy(source: Any, target: Any, n: int) -> None:
        for j in range(n):
            store(target, j, load(source, j, source_scope), target_scope)

    return copy
