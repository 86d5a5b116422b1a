"""Hashes that tell whether a resumed run sees the data that it began with."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

_NAMED_FILES, _READ_FILES = 20_000, 256


def evenly_spaced(count: int, most: int) -> list[int]:
    """Return at most ``most`` of the positions 0 to ``count - 1``, evenly spaced.

    Example:
        >>> evenly_spaced(10, 4)
        [0, 3, 6, 9]
    """
    positions: list[int] = np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
    return positions


def hash_files(paths: Sequence[str]) -> str:
    """Return a hash of the number of files, of names and sizes of up to 20,000, and of the contents of up to 256."""
    digest = hashlib.sha256(str(len(paths)).encode())
    for position in evenly_spaced(len(paths), _NAMED_FILES):
        path = paths[position]
        # The class folder and the file's name: the data set may have been moved.
        name = path.replace(os.sep, "/").split("/")[-2:]
        digest.update(f"{name} {os.path.getsize(path)}\n".encode("utf-8", "surrogateescape"))
    for position in evenly_spaced(len(paths), _READ_FILES):
        with open(paths[position], "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def hash_values(values: Iterable[Any]) -> str:
    """Return a hash of tensors, arrays, numbers, strings, and lists and mappings of them.

    Returns:
        The hash; an empty string if a value is of any other type.

    Example:
        >>> hash_values([torch.zeros(2), "a"]) == hash_values([torch.zeros(2), "b"]), hash_values([object()])
        (False, '')
    """
    digest = hashlib.sha256()
    try:
        for value in values:
            _update(digest, value)
    except TypeError:
        return ""
    return digest.hexdigest()


def _update(digest: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        # A clone, because an axis of length 1 may have any stride in a tensor that calls itself contiguous.
        value = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.flatten().view(torch.uint8).numpy() if value.numel() else b"")
    elif isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc":
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
