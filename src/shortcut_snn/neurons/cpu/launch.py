"""Launch compiled kernels on tensors: work items, the parameter struct, and the tail that does not fill a tile."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..operators.interface import Buffers
from ..operators.layout import bit_row
from . import thread_pool
from .kernels.build import PARAMS, TILE

# The least elements of a work item, and the most items. Neither depends on the number of threads, so that sums do not.
_MIN_ITEM_SIZE, _MAX_ITEMS = 8192, 64

Field = Tensor | int | None
_NONE: Buffers = {}


@dataclass(frozen=True)
class Plan:
    """How the elements of a time step are divided into work items; ``run`` neighbours belong to one channel."""

    elements: int
    run: int
    channels: int
    items: int
    item_size: int

    @classmethod
    @lru_cache(4096)
    def of(cls, elements: int, run: int = 1, channels: int = 1) -> "Plan":
        """Return the plan for elements in runs of a channel."""
        items = max(1, min(_MAX_ITEMS, elements // _MIN_ITEM_SIZE))
        item_size = -(-elements // (items * TILE)) * TILE
        return cls(elements, run, channels, -(-elements // item_size), item_size)

    def workspace(self, tiles: int, channel_rows: int) -> int:
        """Return the float32 numbers of a thread's workspace: tiles, and rows of values or sums per channel."""
        row = self.channels + TILE if self.run == 1 else TILE
        # Threads write to their workspaces all the time, so these must not share cache lines.
        return -(-(tiles * TILE + channel_rows * row) // 32) * 32


_INDICES = {name: index for index, name in enumerate(PARAMS.names or ())}
# The two atomic counters follow the struct, in another cache line: counting must not slow threads that read the struct.
_NEXT_ITEM = len(_INDICES) + 8
_NEXT_THREAD = _NEXT_ITEM + 1
_ZEROS = array("q", bytes(8 * (_NEXT_THREAD + 1)))


def launch(kernel: int, plan: Plan, workspace: int, fields: Mapping[str, Field]) -> None:
    """Run a kernel; each thread gets a workspace of this many float32 numbers."""
    threads = thread_pool.thread_count() if plan.items > 1 else 1
    memory = torch.empty(threads * workspace, dtype=torch.float32, device="cpu")
    # A plain array: writing the parameters is most of what a small layer costs.
    params = _ZEROS[:]
    address, _ = params.buffer_info()
    values: dict[str, Field] = {
        "workspace": memory,
        "thread_bytes": workspace * 4,
        "items": plan.items,
        "item_size": plan.item_size,
        # Sums are float32 over this many elements, before they are added to float64.
        "fold_every": max(32, plan.channels // 8) * TILE,
        "elements": plan.elements,
        "run": plan.run,
        "channels": plan.channels,
        "next_item": address + 8 * _NEXT_ITEM,
        "next_thread": address + 8 * _NEXT_THREAD,
    }
    values.update(fields)
    for name, value in values.items():
        if value is not None:
            params[_INDICES[name]] = value if type(value) is int else cast(Tensor, value).data_ptr()
    thread_pool.run(kernel, address, threads)


def launch_tiles(
    kernel: int, plan: Plan, workspace: int, *, inputs: Buffers = _NONE, outputs: Buffers = _NONE,
    sums: Buffers = _NONE, bits: Buffers = _NONE, fields: Mapping[str, Field],
) -> None:  # fmt: skip
    """Run a kernel that handles whole tiles: once in place, and once on a padded copy of the tail.

    Buffers come by their fields in :data:`~.kernels.build.PARAMS`. Inputs and outputs are sequences in one memory
    layout. ``sums`` have one row for each work item, and one for the tail. The rows of ``bits`` are whole words, so
    their tail fills a tile as it is.
    """
    size, tail = plan.elements, plan.elements % TILE
    start = size - tail
    fields = {**fields, "bits_stride": bit_row(size)}
    items = 0
    if start:
        body = Plan.of(start, plan.run, plan.channels)
        items = body.items
        launch(kernel, body, workspace, {**inputs, **outputs, **sums, **bits, **fields, "stride": size})
    for rows in sums.values():
        if rows is not None:
            rows[items : -1 if tail else None] = 0
    if not tail:
        return
    # The padding of zeros adds nothing to sums.
    padded = {name: pad(_flat(x, size)[:, start:], (0, TILE - tail)) for name, x in inputs.items() if x is not None}
    written = {name: x.new_empty(x.shape[0], TILE) for name, x in outputs.items() if x is not None}
    last_sums = {name: None if rows is None else rows[-1] for name, rows in sums.items()}
    last_words = {name: None if words is None else words.data_ptr() + start // 8 for name, words in bits.items()}
    strides: dict[str, Field] = {"stride": TILE, "origin": start}
    if fields.get("x_step"):
        strides["x_step"] = TILE
    tile = Plan.of(TILE, plan.run, plan.channels)
    launch(kernel, tile, workspace, {**padded, **written, **last_sums, **fields, **strides, **last_words})
    for name, values in written.items():
        target = outputs[name]
        assert target is not None
        _flat(target, size)[:, start:] = values[:, :tail]


def _flat(x: Tensor, size: int) -> Tensor:
    """Return ``[steps, size]`` in the order of memory."""
    return x.as_strided((x.shape[0], size), (size, 1))
