"""The cache of compiled kernels: each has files of its own, and none is needed."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from numba import carray, types
from numba.core import caching
from numba.core.serialize import dumps

from shortcut_snn.neurons.cpu import thread_pool
from shortcut_snn.neurons.cpu.kernels import build, event_convolution, rows
from shortcut_snn.neurons.cpu.kernels.memory import OUT, X, atomic_fetch_add, load, pointer, store


def double(params: Any) -> None:
    p = carray(params, 1)[0]
    x, out = pointer(p.x, types.uint16), pointer(p.out, types.float32)
    i = atomic_fetch_add(p.next_item)
    while i < p.elements:
        store(out, i, load(x, i, X) + load(x, i, X), OUT)
        i = atomic_fetch_add(p.next_item)


def test_a_kernel_is_compiled_where_no_directory_can_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        caching._CacheImpl if hasattr(caching, "_CacheImpl") else caching.CacheImpl, "_locator_classes", []
    )
    assert_doubles(build.kernel(double))


def assert_doubles(kernel: int) -> None:
    x, out, counter = torch.randn(50).bfloat16(), torch.zeros(50), np.zeros(1, np.int64)
    params = np.zeros(1, build.PARAMS)
    params["x"], params["out"], params["elements"] = x.data_ptr(), out.data_ptr(), 50
    params["next_item"] = counter.ctypes.data
    thread_pool.run(kernel, params.ctypes.data, 1)
    assert torch.equal(out, 2 * x.float())
    # One more than there are elements: the call that ends the kernel.
    assert counter[0] == 51


@pytest.mark.parametrize("content", [b"", b"junk"], ids=["empty", "damaged"])
def test_a_damaged_cache_is_reported_once_and_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(build, "_warned", False)
    build.kernel(double)
    for index in tmp_path.rglob("*.nbi"):
        index.write_bytes(content)
    with pytest.warns(UserWarning, match="NUMBA_CACHE_DIR") as warnings:
        addresses = [build.kernel(double) for _ in range(2)]
    assert_doubles(addresses[0])
    assert len(warnings) == 1


def test_a_full_disk_under_the_cache_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(build, "_warned", False)
    monkeypatch.setattr(caching.IndexDataCacheFile, "save", full)
    with pytest.warns(UserWarning, match="No space left"):
        assert_doubles(build.kernel(double))


@pytest.mark.usefixtures("nothing_imported")
def test_neurons_run_in_plain_pytorch_where_numba_is_switched_off() -> None:
    code = "import torch; from shortcut_snn import neurons; print(neurons.LIF()(torch.ones(3, 1, 1)).sum())"
    result = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True
    )
    assert result.stdout == "tensor(1.)\n", result.stderr
    assert "NUMBA_DISABLE_JIT" in result.stderr


@pytest.mark.parametrize(
    "make",
    [
        event_convolution.forward_kernel, event_convolution.narrow_forward_kernel,
        event_convolution.weight_grad_kernel, event_convolution.input_grad_kernel,
    ],
)  # fmt: skip
def test_the_key_of_a_cached_kernel_outlives_the_process(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba's key holds what is in the closure: neither an object that differs in the next process, nor too little."""
    keys: list[bytes] = []

    def kernel(function: Any, loops: object) -> None:
        keys.append(dumps(tuple(cell.cell_contents for cell in function.__closure__)))

    monkeypatch.setattr(event_convolution, "kernel", kernel)
    for vectors, word in ((1, 64), (1, 64), (2, 64), (1, 32)):
        # The next process makes its own.
        for maker in (rows.make_list_bits, rows.make_sum_rows, rows.make_look_up, rows.make_dot_rows):
            maker.cache_clear()
        make.__wrapped__(vectors, word)
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def counter(amount: int) -> Callable[[Any], None]:
    """Return a kernel with a constant."""

    def count(params: Any) -> None:
        carray(params, 1)[0]["items"] += amount

    return count


def test_no_kernel_can_take_the_code_of_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Numba numbers the files of kernels with one name, so processes that compile at once may overwrite them."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    for amount in (1, 2):
        for _ in range(2):
            build.kernel(counter(amount))
    indices, data = ({path.stem.partition("-")[0] for path in tmp_path.rglob(f"*.{kind}")} for kind in ("nbi", "nbc"))
    assert len(indices) == 2
    assert indices == data
    assert len(list(tmp_path.rglob("*.nbc"))) == 2, "the second time they were not loaded"
