"""Running the compiled kernels over tensors: pieces of work, parameters, and the tail that fills no tile."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..operators.layout import bit_row
from . import thread_pool
from .kernels.build import SHEET, TILE

# Elements that a thread takes at once, at least, and how many such pieces there are at most. Neither depends on the
# number of threads, so sums do not either.
_PIECE, _PIECES = 8192, 64

Field = Tensor | int | None


@dataclass(frozen=True)
class Plan:
    """How ``elements`` are cut into pieces of work, and which channels they belong to."""

    elements: int
    run: int
    channels: int
    tasks: int
    task_size: int

    @classmethod
    @lru_cache(4096)
    def of(cls, elements: int, run: int = 1, channels: int = 1) -> "Plan":
        """Plan for elements that lie in memory in runs of a channel."""
        pieces = max(1, min(_PIECES, elements // _PIECE))
        task_size = -(-elements // (pieces * TILE)) * TILE
        return cls(elements, run, channels, -(-elements // task_size), task_size)

    @property
    def _row(self) -> int:
        return self.channels + TILE if self.run == 1 else TILE

    def floats(self, rows: int, numbers: int) -> int:
        """Return the working space of a thread: rows of a tile, and so many sums and numbers per channel."""
        # Threads write to their parts all the time, so these must not share cache lines.
        return -(-(rows * TILE + numbers * self._row) // 32) * 32


_PLACES = {name: place for place, name in enumerate(SHEET.names or ())}
# The counters behind the sheet, far enough from it that threads which count do not slow those that read.
_TICKET = len(_PLACES) + 8
_WORDS = array("q", bytes(8 * (_TICKET + 2)))


def launch(kernel: int, plan: Plan, floats: int, fields: Mapping[str, Field]) -> None:
    """Run a kernel with these parameters; each thread gets ``floats`` float32 to work in."""
    threads = thread_pool.thread_count() if plan.tasks > 1 else 1
    workspace = torch.empty(threads * floats, dtype=torch.float32, device="cpu")
    # A plain array: what a small layer costs is mostly what is written here.
    sheet = _WORDS[:]
    address, _ = sheet.buffer_info()
    common: dict[str, Field] = {
        "workspace": workspace,
        "worker_bytes": floats * 4,
        "tasks": plan.tasks,
        "task_size": plan.task_size,
        # Sums are float32 for so many elements, before they are added to float64.
        "fold_every": max(32, plan.channels // 8) * TILE,
        "elements": plan.elements,
        "run": plan.run,
        "channels": plan.channels,
        "ticket": address + 8 * _TICKET,
        "workers": address + 8 * (_TICKET + 1),
    }
    common.update(fields)
    for name, value in common.items():
        if value is not None:
            sheet[_PLACES[name]] = value if type(value) is int else cast(Tensor, value).data_ptr()
    thread_pool.run(kernel, address, threads)


def launch_tiles(
    kernel: int,
    plan: Plan,
    floats: int,
    inputs: Mapping[str, Tensor | None],
    outputs: Mapping[str, Tensor | None],
    sums: Mapping[str, Tensor | None],
    bits: Mapping[str, Tensor | None],
    fields: Mapping[str, Field],
) -> None:
    """Run a kernel that takes whole tiles only.

    Args:
        kernel: its address.
        plan: how a time step is cut.
        floats: working space of a thread.
        inputs: sequences ``[steps, ...]`` that it reads, all laid out alike.
        outputs: sequences that it writes.
        sums: ``[plan.tasks + 1, ...]``: a row for each piece of work, and one for the tail.
        bits: sequences as bits, read or written, rows of whole words: their tail fills its tile as it is.
        fields: other parameters.
    """
    size, tail = plan.elements, plan.elements % TILE
    fields = {**fields, "bits_stride": bit_row(size)}
    if size > tail:
        whole = Plan.of(size - tail, plan.run, plan.channels)
        launch(kernel, whole, floats, {**inputs, **outputs, **sums, **bits, **fields, "stride": size})
        for total in sums.values():
            if total is not None:
                total[whole.tasks : -1] = 0
    else:
        for total in sums.values():
            if total is not None:
                total[:-1] = 0
    if not tail:
        for total in sums.values():
            if total is not None:
                total[-1] = 0
        return
    # Zeros behind the tail fill its tile: no gradient comes from there, so they add nothing to sums.
    views = {name: _flat(x, size)[:, size - tail :] for name, x in inputs.items() if x is not None}
    staged = {name: pad(view, (0, TILE - tail)) for name, view in views.items()}
    written = {name: x.new_empty(x.shape[0], TILE) for name, x in outputs.items() if x is not None}
    last = {name: None if total is None else total[-1] for name, total in sums.items()}
    changed: dict[str, Field] = {"stride": TILE, "origin": size - tail}
    if fields.get("x_step"):
        changed["x_step"] = TILE
    for name, rows in bits.items():
        changed[name] = None if rows is None else rows.data_ptr() + (size - tail) // 8
    one = Plan.of(TILE, plan.run, plan.channels)
    launch(kernel, one, floats, {**staged, **written, **last, **fields, **changed})
    for name, values in written.items():
        target = outputs[name]
        assert target is not None
        _flat(target, size)[:, size - tail :] = values[:, :tail]


def _flat(x: Tensor, size: int) -> Tensor:
    """Return ``[steps, size]`` in the order of memory."""
    return x.as_strided((x.shape[0], size), (size, 1))
