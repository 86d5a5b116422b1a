"""A cache of frames on disk, one file per recording."""

import hashlib
import json
import os
import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._utils.files import expanded, make_folder, remove_strays, replacing

VERSION = 2
"""Raise it with every change to the file format or to the frames of a recording; older entries are then ignored."""
OFF = "off"
_SUFFIX = ".frames"
_SHAPE = struct.Struct("<4I")


def cache_folder(cache: str | None) -> Path | None:
    """Return the folder that the option ``data.cache`` stands for; None if the cache is off."""
    if cache == OFF:
        return None
    if cache is not None:
        return expanded(cache)
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expanded(home) / "shortcut-snn" / "frames"


class FrameCache:
    """Frames by recording, for one way of making frames.

    An entry's file name is a hash of the recording's identity, the transform and VERSION. A change of any of them
    gives another name, so nothing has to be invalidated. Entries are written atomically, by any number of processes.
    zlib's checksum detects damage; a damaged entry counts as missing.

    Args:
        transform: everything that determines the frames of a recording, as JSON values.
    """

    def __init__(self, folder: Path, transform: Mapping[str, Any]) -> None:
        self._transform = _hash({**transform, "version": VERSION})
        self.folder = folder / self._transform[:24]
        self._writable = True
        try:
            make_folder(self.folder)
        except OSError as error:
            raise ValueError(
                f"data.cache: {folder} cannot be written to ({error.strerror}); name another folder, or off"
            ) from error
        remove_strays(self.folder)

    def get(self, identity: Sequence[str | int]) -> NDArray[np.uint8] | None:
        """Return the frames ``[T, 2, H, W]`` of a recording; None if they are missing or damaged."""
        path = self._path(identity)
        try:
            content = zlib.decompress(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, zlib.error) as error:
            warnings.warn(f"cached frames {path} cannot be read ({error}) and are made again", stacklevel=2)
            return None
        return np.frombuffer(content, np.uint8, offset=_SHAPE.size).reshape(_SHAPE.unpack_from(content))

    def put(self, identity: Sequence[str | int], frames: NDArray[np.uint8]) -> None:
        """Store the frames of a recording; if the disk is full, warn once and store no more."""
        if not self._writable:
            return
        try:
            with replacing(self._path(identity)) as temporary:
                # Frames are mostly zeros: the fastest level saves nine tenths of the disk.
                temporary.write_bytes(zlib.compress(_SHAPE.pack(*frames.shape) + frames.tobytes(), 1))
        except OSError as error:
            self._writable = False
            warnings.warn(f"{self.folder} takes no more frames ({error.strerror})", stacklevel=2)

    def _path(self, identity: Sequence[str | int]) -> Path:
        return self.folder / (_hash([self._transform, *identity]) + _SUFFIX)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
