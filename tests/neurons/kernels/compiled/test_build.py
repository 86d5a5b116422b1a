"""Compiling where nothing may be written to."""

from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from numba import carray, types
from numba.core import caching

from shortcut_snn.neurons.cpu import thread_pool as team
from shortcut_snn.neurons.cpu.kernels import build
from shortcut_snn.neurons.cpu.kernels.memory import OUT, X, load, pointer, store, take


def double(sheet: Any) -> None:
    p = carray(sheet, 1)[0]
    x, out = pointer(p.x, types.uint16), pointer(p.out, types.float32)
    i = take(p.ticket)
    while i < p.elements:
        store(out, i, load(x, i, X) + load(x, i, X), OUT)
        i = take(p.ticket)


def test_a_kernel_is_compiled_where_no_directory_can_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        caching._CacheImpl if hasattr(caching, "_CacheImpl") else caching.CacheImpl, "_locator_classes", []
    )
    kernel = build.kernel(double)
    x, out, counter = torch.randn(50).bfloat16(), torch.zeros(50), np.zeros(1, np.int64)
    sheet = np.zeros(1, build.SHEET)
    sheet["x"], sheet["out"], sheet["elements"] = x.data_ptr(), out.data_ptr(), 50
    sheet["ticket"] = counter.ctypes.data
    team.run(kernel, sheet.ctypes.data, 1)
    assert torch.equal(out, 2 * x.float())
    # One more than there are elements: the call that found none left.
    assert counter[0] == 51
