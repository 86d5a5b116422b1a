"""Hashes that tell whether a resumed run sees the data that it began with."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch


def evenly_spaced(count: int, limit: int) -> list[int]:
    """Return at most ``limit`` of the positions 0 to ``count - 1``, evenly spaced."""
    positions: list[int] = np.linspace(0, count - 1, min(count, limit)).round().astype(int).tolist()
    return positions


def hash_values(values: Iterable[Any]) -> str:
    """Return a hash of tensors, arrays, numbers, strings, and lists and mappings of them; empty for other values."""
    digest = hashlib.sha256()
    try:
        for value in values:
            _update(digest, value)
    except TypeError:
        return ""
    return digest.hexdigest()


def _update(digest: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc":
        digest.update(f"{value.dtype} {value.shape}".encode() + value.tobytes())
    elif isinstance(value, Mapping):
        _update(digest, list(value.items()))
    elif isinstance(value, list | tuple):
        digest.update(f"{len(value)}[".encode())
        for item in value:
            _update(digest, item)
    elif value is None or isinstance(value, str | bytes | int | float):
        digest.update(f"{type(value).__name__} {value!r}".encode())
    else:
        raise TypeError(f"a {type(value).__name__} has no fingerprint")
