"""What a data set was like when a run began, in a few words: whether it is still the same can be told from them."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

Fingerprint = dict[str, str]
"""``contents`` is a hash of sizes and contents, or a sample of these; ``dates`` one of when files were changed."""

MOST_FILES, MOST_CONTENTS, MOST_SAMPLES = 20_000, 256, 64
"""So many files are looked at, so many read, and so many samples drawn of a set that is not held in memory."""


def spread(count: int, most: int) -> list[int]:
    """Return at most ``most`` positions of ``count``, evenly spread.

    Example:
        >>> spread(10, 4)
        [0, 3, 6, 9]
    """
    found: list[int] = np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
    return found


def of_files(paths: Sequence[str | os.PathLike[str]]) -> Fingerprint:
    """Return the fingerprint of files: names, sizes and dates of most, the contents of some."""
    contents, dates = hashlib.sha256(str(len(paths)).encode()), hashlib.sha256()
    for place in spread(len(paths), MOST_FILES):
        path, state = paths[place], os.stat(paths[place])
        name = os.fspath(path).replace(os.sep, "/").split("/")[-2:]
        contents.update(f"{name} {state.st_size}\n".encode("utf-8", "surrogateescape"))
        dates.update(f"{state.st_mtime_ns}\n".encode())
    for place in spread(len(paths), MOST_CONTENTS):
        with open(paths[place], "rb") as file:
            contents.update(hashlib.file_digest(file, "sha256").digest())
    return {"contents": contents.hexdigest(), "dates": dates.hexdigest()}


def of_values(values: Iterable[Any]) -> Fingerprint:
    """Return the fingerprint of tensors, arrays, numbers, texts, and lists and mappings of these; of others nothing.

    Example:
        >>> of_values([torch.zeros(2), "a"]) == of_values([torch.zeros(2), "b"]), of_values([object()])
        (False, {})
    """
    contents = hashlib.sha256()
    try:
        for value in values:
            _add(contents, value)
    except TypeError:
        return {}
    return {"contents": contents.hexdigest()}


def joined(parts: Mapping[str, Fingerprint]) -> Fingerprint:
    """Return the fingerprint of a set of those of its parts; nothing where a part has none."""
    if not all(parts.values()):
        return {}
    keys = [key for key in ("contents", "dates") if all(key in part for part in parts.values())]
    return {
        key: hashlib.sha256("".join(f"{name} {part[key]}\n" for name, part in parts.items()).encode()).hexdigest()
        for key in keys
    }


def _add(contents: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        # Axes of one entry may have any stride in what is called contiguous.
        value = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        contents.update(f"{value.dtype} {tuple(value.shape)}".encode())
        contents.update(value.flatten().view(torch.uint8).numpy() if value.numel() else b"")
    elif isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc":
        contents.update(f"{value.dtype} {value.shape}".encode() + value.tobytes())
    elif isinstance(value, Mapping):
        _add(contents, list(value.items()))
    elif isinstance(value, list | tuple):
        contents.update(f"{len(value)}[".encode())
        for each in value:
            _add(contents, each)
    elif value is None or isinstance(value, str | bytes | int | float):
        contents.update(f"{type(value).__name__} {value!r}".encode())
    else:
        raise TypeError(f"a {type(value).__name__} has no fingerprint")
