"""Which implementation of the neurons runs: chosen by device and dtype, overridable."""

import importlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, cast, get_args

import torch
from torch import Tensor

Backend = Literal["auto", "eager", "numba"]

_VARIABLE = "SHORTCUT_SNN_BACKEND"
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def _check(name: str) -> Backend:
    if name not in get_args(Backend):
        raise ValueError(f"unknown backend {name!r}: use one of {', '.join(get_args(Backend))}")
    return cast(Backend, name)


_backend: Backend = _check(os.environ.get(_VARIABLE, "auto"))
_numba: bool | None = None


def get_backend() -> Backend:
    """Return the backend that was set: ``"auto"`` unless :func:`set_backend` or ``SHORTCUT_SNN_BACKEND`` said else."""
    return _backend


def set_backend(name: Backend) -> None:
    """Choose the implementation of the neurons for the whole process.

    Args:
        name: ``"auto"``: the fastest there is for a tensor's device and dtype; ``"eager"``: plain PyTorch, the
            reference; ``"numba"``: the compiled CPU kernels (plain PyTorch where they do not apply).

    Raises:
        ValueError: an unknown name.
        ImportError: numba is asked for and cannot be imported.
    """
    global _backend
    backend = _check(name)
    if backend == "numba" and not _numba_works():
        raise ImportError("the numba backend needs numba: pip install 'shortcut-snn[fast]'")
    _backend = backend


@contextmanager
def use_backend(name: Backend) -> Iterator[None]:
    """Choose the implementation within a ``with`` block; see :func:`set_backend`."""
    before = _backend
    set_backend(name)
    try:
        yield
    finally:
        set_backend(before)


def kernels_run(x: Tensor) -> bool:
    """Say whether the compiled kernels run on a tensor like this one."""
    if _backend == "eager" or x.device.type != "cpu" or x.dtype not in _DTYPES or x.numel() == 0:
        return False
    if is_exported():
        return False
    works: bool = _numba_works()
    return works


def is_exported() -> bool:
    """Say whether what runs is being traced for a file, which must work without this library's operators."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return tracing or torch.compiler.is_exporting()


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _numba_works() -> bool:
    """Import the kernels, once; where that fails, say so once."""
    global _numba
    if _numba is None:
        try:
            importlib.import_module(f"{__package__}.cpu")
            _numba = True
        except ImportError as error:
            _numba = False
            warnings.warn(
                f"Neurons run in plain PyTorch, slower and with more memory, because numba cannot be imported "
                f"({error}). Install it with: pip install 'shortcut-snn[fast]'",
                stacklevel=2,
            )
    return _numba
