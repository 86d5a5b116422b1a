"""Choose the implementation of the neurons, by device and dtype or for the whole process."""

import importlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from .operators.interface import Implementation
from .proof import ProvenKernels, Verdict, first_line

Backend = Literal["auto", "eager", "numba", "triton"]
Kernels = Literal["numba", "triton"]

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_IMPLEMENTATIONS: dict[Kernels, str] = {"numba": "cpu.implementation", "triton": "gpu.implementation"}
_KERNELS_OF_DEVICE: dict[str, Kernels] = {"cpu": "numba", "cuda": "triton"}
_INSTALL: dict[Kernels, str] = {"numba": "pip install 'shortcut-snn[fast]'", "triton": "pip install triton"}


def _check(name: str) -> Backend:
    if name not in get_args(Backend):
        raise ValueError(f"unknown backend {name!r}: use one of {', '.join(get_args(Backend))}")
    return cast(Backend, name)


_backend: Backend = _check(os.environ.get("SHORTCUT_SNN_BACKEND", "auto"))
# Whether kernels were found to work on a type of device.
_working: dict[tuple[Kernels, str], bool] = {}
_loaded: dict[Kernels, ProvenKernels] = {}


def get_backend() -> Backend:
    """Return the current backend: ``"auto"``, or the one of :func:`set_backend` or ``SHORTCUT_SNN_BACKEND``.

    Example:
        >>> from shortcut_snn.neurons import get_backend, use_backend
        >>> with use_backend("eager"):
        ...     get_backend()
        'eager'
    """
    return _backend


def set_backend(name: Backend) -> None:
    """Choose the implementation of the neurons for the whole process.

    Args:
        name: ``"auto"`` is the fastest backend for a tensor's device and dtype. ``"eager"`` is plain PyTorch, the
            reference. ``"numba"`` is the compiled CPU kernels, ``"triton"`` the compiled GPU kernels. Kernels that are
            chosen must run: a failure is an error, where ``"auto"`` warns and goes on in plain PyTorch. Tensors on
            other devices, of float64, without elements, or in a transform of ``torch.func`` are for plain PyTorch.

    Raises:
        ValueError: an unknown name.
        ImportError: numba or triton cannot be imported.
        RuntimeError: triton has no GPU to run on.

    Example:
        >>> set_backend(get_backend())
    """
    global _backend
    backend = _check(name)
    if backend == "numba" or backend == "triton":
        try:
            _load(backend)
        except ImportError as error:
            raise ImportError(f"the {backend} backend needs {backend}: {_INSTALL[backend]}") from error
        _check_device(backend)
    _backend = backend


@contextmanager
def use_backend(name: Backend) -> Iterator[None]:
    """Choose the backend within a ``with`` block; see :func:`set_backend`.

    Example:
        >>> with use_backend("eager"):
        ...     get_backend()
        'eager'
    """
    before = _backend
    set_backend(name)
    try:
        yield
    finally:
        set_backend(before)


def kernels_run(x: Tensor) -> bool:
    """Return whether compiled kernels run on tensors of this size, dtype and device."""
    if _backend == "eager" or x.dtype not in _DTYPES or x.numel() == 0 or is_exported():
        return False
    kernels = _kernels(x.device.type)
    if kernels is None or _backend not in ("auto", kernels) or torch._C._are_functorch_transforms_active():
        return False
    works: bool = _works(kernels, x.device.type)
    return works


def implementation(x: Tensor) -> Implementation:
    """Return the kernels for the device of a tensor."""
    device = x.device.type
    # A backward pass may run after another backend was set.
    return _load(_kernels(device) or _KERNELS_OF_DEVICE[device])


def proofs() -> list[Verdict]:
    """Return the verdicts on the kernels that ran in this process, in their order."""
    return [verdict for kernels in _loaded.values() for verdict in kernels.verdicts.values()]


def is_exported() -> bool:
    """Return whether a graph is being exported; the file must work without this library's operators."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    # In torch 2.9, is_exporting() is also true while compiling.
    return tracing or (torch.compiler.is_exporting() and not torch.compiler.is_dynamo_compiling())


def _check_device(backend: Backend) -> None:
    if backend == "triton" and not (torch.cuda.is_available() or _interpreted()):
        raise RuntimeError("the triton backend needs a GPU, and PyTorch sees none: choose 'auto', or 'numba' on a CPU")


def _kernels(device: str) -> Kernels | None:
    if device == "cpu" and _backend == "triton":
        # The environment variable may have chosen it.
        _check_device(_backend)
        return "triton" if _interpreted() else None
    return _KERNELS_OF_DEVICE.get(device)


@cache
def _load(kernels: Kernels) -> ProvenKernels:
    module = cast(Implementation, importlib.import_module(f"{__package__}.{_IMPLEMENTATIONS[kernels]}"))
    _loaded[kernels] = ProvenKernels(module, kernels, lambda: _backend == kernels)
    return _loaded[kernels]


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _interpreted() -> bool:
    from .gpu import implementation as gpu

    return gpu.INTERPRETED


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _works(kernels: Kernels, device: str) -> bool:
    """Import kernels and test them once; warn once if they fail."""
    if (kernels, device) in _working:
        return _working[kernels, device]
    reason = ""
    try:
        module = _load(kernels).kernels
        if device != "cpu":
            if type(torch.empty(0)) is not Tensor:
                return True  # Tensors without data are traced: a kernel cannot run now.
            # The GPU may be too old, or a compiler may be missing.
            bits = module.pack(torch.ones(1, 9, dtype=torch.float32, device=device))[0].tolist()
            if bits != [255, 1, 0, 0, 0, 0, 0, 0]:
                raise RuntimeError(f"a test kernel returned {bits}")
    except ImportError as error:
        reason = f"{kernels} cannot be imported ({error}). Install it with: {_INSTALL[kernels]}"
    except Exception as error:
        reason = f"{kernels} does not work there ({first_line(error)})"
    if reason and _backend == kernels:
        raise RuntimeError(f"the backend {kernels!r} was chosen, but {reason}; 'auto' falls back to plain PyTorch")
    if reason:
        where = "" if device == "cpu" else "on a GPU "
        warnings.warn(
            f"Neurons {where}run in plain PyTorch, slower and with more memory, because {reason}", stacklevel=2
        )
    _working[kernels, device] = not reason
    return not reason
