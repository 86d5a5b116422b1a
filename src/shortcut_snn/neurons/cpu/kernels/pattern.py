"""Expand values per channel to the elements of a tile, and reduce sums of a tile to channels.

Element m of a time step belongs to channel ``(m // run) % channels``: run is 1 in channels-last memory and H * W in
contiguous memory. In channels-last memory a thread first *wraps* the values: it appends copies of the first TILE
values, so that the values of a tile are consecutive wherever the tile starts. Sums per channel have the same form.
"""

from functools import cache
from typing import Any

import numpy as np

from .build import TILE, loop, reduction
from .memory import PARTIAL, ROW, SOURCE, load, shifted, store

_ZERO = np.float32(0.0)


@cache
def make_wrap(scope: int) -> Any:
    """Make ``wrap(source, target, rows, run, channels)``, which writes wrapped rows and returns them.

    If channels fill whole tiles, or memory is contiguous, no wrapping is needed, and it returns the source.
    """

    @loop
    def wrap(source: Any, target: Any, rows: int, run: int, channels: int) -> Any:
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

    return wrap


@loop
def expand(source: Any, row: Any, base: int, n: int, run: int, channels: int) -> Any:
    """Return the values of a tile, written to ``row`` only if needed."""
    if run == 1:
        return shifted(source, base % channels)
    j = 0
    while j < n:
        m = base + j
        value = load(source, (m // run) % channels, SOURCE)
        count = min(run - m % run, n - j)
        if count == TILE:
            for i in range(TILE):
                store(row, i, value, ROW)
        else:
            for i in range(count):
                store(row, j + i, value, ROW)
        j += count
    return row


@loop
def expand_into(source: Any, row: Any, base: int, n: int, run: int, channels: int) -> None:
    """Write the values of a tile to ``row`` in any case."""
    values = expand(source, row, base, n, run, channels)
    if run == 1:
        for j in range(n):
            store(row, j, load(values, j, SOURCE), ROW)


@loop
def sums_at(sums: Any, base: int, run: int, channels: int) -> Any:
    """Return the pointer to the sums of the tile at ``base``."""
    return shifted(sums, base % channels) if run == 1 else sums


@cache
def make_fold(scope: int) -> Any:
    """Make ``fold(sums, partial, base, n, run, channels)``: add a tile's sums to the channels' float64 sums."""

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
def make_clear(scope: int) -> Any:
    """Make ``clear(target, n)``: set a buffer of this alias scope to 0."""

    @loop
    def clear(target: Any, n: int) -> None:
        for j in range(n):
            store(target, j, _ZERO, scope)

    return clear


@cache
def make_copy(source_scope: int, target_scope: int) -> Any:
    """Make ``copy(source, target, n)``: copy a buffer and convert its type."""

    @loop
    def copy(source: Any, target: Any, n: int) -> None:
        for j in range(n):
            store(target, j, load(source, j, source_scope), target_scope)

    return copy
