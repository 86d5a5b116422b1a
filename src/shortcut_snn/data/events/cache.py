"""Frames kept on disk, one file a recording, under a name that changes with everything that could change them."""

import hashlib
import json
import os
import struct
import time
import warnings
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...files import expanded, replacing, write_text

VERSION = 1
"""To be raised with every change that makes other frames of the same recording: those kept are forgotten then."""
OFF = "off"
_SUFFIX = ".frames"
# What it is, the key, checksum of the rest, shape; then the counts, compressed.
_HEADER = struct.Struct("<8s32s16s4I")
_MAGIC = b"SNNFRM1\n"
_STRAY_SECONDS = 3600.0


def cache_folder(given: str | None) -> Path | None:
    """Return the folder that ``data.cache`` means, None for off."""
    if given == OFF:
        return None
    if given is not None:
        return expanded(given)
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expanded(home) / "shortcut-snn" / "frames"


class FrameCache:
    """Frames by recording, for one way of making frames.

    A key is a checksum of the recording's identity, the way frames are made and VERSION: frames made
    otherwise have another name, so there is nothing to invalidate. An entry is written under another name, brought to
    the disk and renamed: any number of processes may write the same one, and a kill at any time leaves a whole entry or
    none. Its checksum is verified on every read; a damaged entry counts as missing, with a warning.

    Args:
        folder: holds a folder for each way of making frames; created.
        transform: all that decides what frames a recording becomes, but for VERSION; plain values.

    Raises:
        ValueError: the folder cannot be written to.

    """

    def __init__(self, folder: Path, transform: Mapping[str, Any]) -> None:
        about = {**transform, "version": VERSION}
        self._about = _checksum(about)
        self.folder = folder / self._about.hex()[:24]
        self._writes = True
        try:
            # Not again: somebody else's cache may be one to read only.
            if not (self.folder / "about.json").is_file():
                write_text(self.folder / "about.json", json.dumps(about, indent=2) + "\n")
            self._remove_strays()
        except OSError as error:
            raise ValueError(
                f"data.cache: {folder} cannot be written to ({error.strerror}); name another folder, or off"
            ) from error

    def get(self, identity: Sequence[str | int]) -> NDArray[np.uint8] | None:
        """Return the frames ``[T, 2, H, W]`` of a recording, None where they are not kept or damaged."""
        key = self._key(identity)
        path = self._path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            warnings.warn(f"cached frames {path} cannot be read ({error.strerror}) and are made anew", stacklevel=2)
            return None
        frames = _unpack(content, key)
        if frames is None:
            warnings.warn(f"cached frames {path} are damaged and are made anew", stacklevel=2)
        return frames

    def put(self, identity: Sequence[str | int], frames: NDArray[np.uint8]) -> None:
        """Keep the frames of a recording; with a full disk, warn once and keep no more."""
        if not self._writes:
            return
        key = self._key(identity)
        # Frames are mostly zeros: a tenth of the disk for a few dozen microseconds.
        payload = zlib.compress(np.ascontiguousarray(frames).data, 1)
        header = _HEADER.pack(_MAGIC, key, _digest(frames.shape, payload), *frames.shape)
        try:
            with replacing(self._path(key)) as temporary:
                temporary.write_bytes(header + payload)
        except OSError as error:
            self._writes = False
            warnings.warn(f"{self.folder} takes no more frames ({error.strerror}): going on without", stacklevel=2)

    def size(self) -> tuple[int, int]:
        """Return the number of recordings kept and their bytes on disk."""
        found = [entry for entry in os.scandir(self.folder) if entry.name.endswith(_SUFFIX) and entry.name[0] != "."]
        return len(found), sum(entry.stat().st_size for entry in found)

    def _key(self, identity: Sequence[str | int]) -> bytes:
        return _checksum([self._about.hex(), *identity])

    def _path(self, key: bytes) -> Path:
        return self.folder / (key.hex() + _SUFFIX)

    def _remove_strays(self) -> None:
        """Remove what killed writers left; a living one needs its file for far less than an hour."""
        for entry in os.scandir(self.folder):
            # Another process may be quicker, or the folder not ours: no harm.
            with suppress(OSError):
                if entry.name.startswith(".") and time.time() - entry.stat().st_mtime > _STRAY_SECONDS:
                    Path(entry.path).unlink()


def _unpack(content: bytes, key: bytes) -> NDArray[np.uint8] | None:
    if len(content) < _HEADER.size:
        return None
    magic, found, digest, *shape = _HEADER.unpack_from(content)
    payload = memoryview(content)[_HEADER.size :]
    if (magic, found, digest) != (_MAGIC, key, _digest(shape, payload)):
        return None
    return np.frombuffer(zlib.decompress(payload), np.uint8).reshape(shape)


def _digest(shape: Sequence[int], payload: bytes | memoryview) -> bytes:
    checksum = hashlib.blake2b(repr(tuple(shape)).encode(), digest_size=16)
    checksum.update(payload)
    return checksum.digest()


def _checksum(value: Any) -> bytes:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()
