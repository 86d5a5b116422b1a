"""Running the compiled kernels over tensors: pieces of work, parameters, and the tail that fills no tile."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from . import team
from .compiled.build import SHEET, TILE
from .layout import bit_row

# Elements that a thread takes at once, at least, and how many such pieces there are at most. Neither depends on the
# number of threads, so sums do not either.
_PIECE, _PIECES = 8192, 64

Field = Tensor | NDArray[np.float32] | int | None


@dataclass(frozen=True)
class Plan:
    """How ``elements`` are cut into pieces of work, and which channels they belong to."""

    elements: int
    run: int
    channels: int
    tasks: int
    task_size: int

    @classmethod
    def of(cls, elements: int, run: int = 1, channels: int = 1) -> "Plan":
        """Plan for elements that lie in memory in runs of a channel."""
        pieces = max(1, min(_PIECES, elements // _PIECE))
        task_size = -(-elements // (pieces * TILE)) * TILE
        return cls(elements, run, channels, -(-elements // task_size), task_size)

    def row(self, numbers: Tensor) -> Tensor:
        """Return numbers per channel as the kernels want them: channels-last, TILE more of them in a cycle.

        Where channels fill whole tiles, no tile reads behind the last.
        """
        if self.run != 1 or self.channels % TILE == 0:
            return numbers.contiguous()
        return numbers.repeat(-(-self._row // self.channels))[: self._row]

    @property
    def _row(self) -> int:
        return self.channels + TILE if self.run == 1 else TILE

    def floats(self, rows: int, sums: int) -> int:
        """Return the working space of a thread: rows of a tile, and so many sums per channel."""
        # Threads write to their parts all the time, so these must not share cache lines.
        return -(-(rows * TILE + sums * self._row) // 32) * 32


def launch(kernel: int, plan: Plan, floats: int, fields: Mapping[str, Field]) -> None:
    """Run a kernel with these parameters; each thread gets ``floats`` float32 to work in."""
    threads = team.thread_count() if plan.tasks > 1 else 1
    workspace = torch.empty(threads * floats, dtype=torch.float32, device="cpu")
    counters = np.zeros(2, np.int64)
    sheet = np.zeros(1, SHEET)
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
        "ticket": counters.ctypes.data,
        "workers": counters.ctypes.data + counters.itemsize,
    }
    for name, value in (common | dict(fields)).items():
        if value is not None:
            sheet[name] = _address(value)
    team.run(kernel, sheet.ctypes.data, threads)


def _address(value: Tensor | NDArray[np.float32] | int) -> int:
    if isinstance(value, Tensor):
        return value.data_ptr()
    return value if isinstance(value, int) else value.ctypes.data


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
