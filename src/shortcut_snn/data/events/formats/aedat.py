"""AEDAT 2 (jAER: CIFAR10-DVS) and AEDAT 3 (cAER: DVS128 Gesture) (``.aedat``)."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..recording import Events, RecordingError, Sensor, unwrapped

# Of text only, in whatever encoding: what follows a header may begin with a # by chance.
_HEADER_LINE = re.compile(rb"#[\t\x20-\x7e\x80-\xff]*\r?\n")
_LAST_LINE = b"#End Of ASCII Header"
_VERSION = re.compile(rb"#!AER-DAT(\d+)\.\d+\s")
_END_OF_HEADER = re.compile(rb"#!END-HEADER\r?\n")


def read_aedat(path: Path, sensor: Sensor, turned: bool = False) -> Events:
    """Read a file of version 2, 3 or 4.

    Args:
        path: the file.
        sensor: height and width of the camera.
        turned: whether a DVS128's rows and columns have changed places in version 2, as in CIFAR10-DVS.

    Raises:
        RecordingError: it is another version, of a camera whose addresses are not known, cut short, or no AEDAT file.
    """
    content = _content(path)
    version = _version(path, content)
    if version == 4:
        from .aedat4 import read_aedat4

        return read_aedat4(path, sensor)
    return _read2(path, content, sensor, turned) if version == 2 else read_aedat3(path)


def _content(path: Path) -> NDArray[np.uint8]:
    if path.stat().st_size == 0:
        raise RecordingError(f"{path} is empty")
    return np.memmap(path, np.uint8, mode="r")


def _version(path: Path, content: NDArray[np.uint8]) -> int:
    found = _VERSION.match(content[:64].tobytes())
    if found is None:
        raise RecordingError(f"{path} is no AEDAT file: it does not begin with #!AER-DAT")
    version = int(found[1])
    if version not in (2, 3, 4):
        raise RecordingError(f"{path} is of AEDAT version {version}; versions 2, 3 and 4 are read")
    return version


@dataclass(frozen=True)
class _Addresses:
    """Where an AEDAT 2 address has its row, its column and its polarity, and what stands for a rise of brightness."""

    y: tuple[int, int]
    x: tuple[int, int]
    polarity: int
    rise: int
    other: int = 0
    """Bits that say that this is no event of brightness."""


# As jAER has them; rows and columns are counted from the far corner.
_ADDRESSES = {
    (128, 128): _Addresses(y=(8, 0x7F), x=(1, 0x7F), polarity=0, rise=0, other=1 << 31 | 1 << 15),
    (260, 346): _Addresses(y=(22, 0x1FF), x=(12, 0x3FF), polarity=11, rise=1, other=1 << 31 | 1 << 10),
}


def _read2(path: Path, content: NDArray[np.uint8], sensor: Sensor, turned: bool) -> Events:
    layout = _ADDRESSES.get(sensor)
    if layout is None:
        known = ", ".join(f"{height}x{width}" for height, width in _ADDRESSES)
        raise RecordingError(
            f"{path} is of AEDAT version 2, read for sensors of {known} pixels (height x width), not of"
            f" {sensor[0]}x{sensor[1]}"
        )
    start = _header_end(content)
    left = (len(content) - start) % 8
    if left:
        raise RecordingError(f"{path} is cut short: {left} bytes are left after the last whole event")
    address, stamp = content[start:].view(">u4").reshape(-1, 2).astype(np.uint32).T
    chosen = address & np.uint32(layout.other) == 0
    address, stamp = address[chosen], stamp[chosen]
    y, x = ((address >> shift) & mask for shift, mask in (layout.y, layout.x))
    if turned and sensor == (128, 128):
        y, x = x, y
    polarity = (address >> layout.polarity & 1) == layout.rise
    return Events.of(unwrapped(stamp), sensor[1] - 1 - x.astype(np.int64), sensor[0] - 1 - y.astype(np.int64), polarity)


def _header_end(content: NDArray[np.uint8]) -> int:
    head, position = content.data, 0
    while line := _HEADER_LINE.match(head, position):
        position = line.end()
        if line[0].startswith(_LAST_LINE):
            break
    return position


# Type, source, bytes of an event, offset of its time, overflows of time, capacity, events, valid events.
_PACKET = struct.Struct("<hhiiiiii")
_POLARITY = 1
_COMPRESSED = 1 << 15


def read_aedat3(path: Path, start: int | None = None, end: int | None = None) -> Events:
    """Read a file of version 3, or its events of ``start <= t < end`` (microseconds), skipping the other packets.

    Raises:
        RecordingError: it is cut short, damaged or no such file.
    """
    content = _content(path)
    if _version(path, content) != 3:
        raise RecordingError(f"{path} is not of AEDAT version 3")
    parts = []
    for data, overflow in _packets(path, content):
        stamps = data[:, 1].astype(np.int64) | overflow << 31
        late, early = start is not None and stamps[-1] < start, end is not None and stamps[0] >= end
        if late or early:
            continue
        word = data[:, 0]
        chosen = word & 1 == 1
        if start is not None:
            chosen &= stamps >= start
        if end is not None:
            chosen &= stamps < end
        parts.append((stamps[chosen], word[chosen]))
    if not parts:
        return Events.of(*(np.empty(0, np.int64) for _ in range(4)))
    time, word = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Events.of(time, word >> 17, word >> 2 & 0x7FFF, word >> 1 & 1)


def _packets(path: Path, content: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.uint32], int]]:
    """Yield the events of each packet of polarities, ``[n, 2]`` of data and time, and how often time overflowed."""
    ended = _END_OF_HEADER.search(content[:65536].tobytes())
    if ended is None:
        raise RecordingError(f"{path} is cut short or damaged: its header has no end")
    position = ended.end()
    while position < len(content):
        body = position + _PACKET.size
        if body > len(content):
            raise RecordingError(f"{path} is cut short: it ends within the head of a packet")
        kind, _, size, _, overflow, capacity, number, _ = _PACKET.unpack(content[position:body].tobytes())
        if kind & _COMPRESSED:
            raise RecordingError(f"{path} holds compressed packets, which are not read")
        if size < 1 or not 0 <= number <= capacity or overflow < 0 or (kind == _POLARITY and size != 8):
            raise RecordingError(f"{path} is damaged: the head of a packet at byte {position} makes no sense")
        position = body + size * capacity
        if position > len(content):
            raise RecordingError(f"{path} is cut short: it ends within a packet")
        if kind == _POLARITY and number:
            yield _words(content[body : body + 8 * number]), overflow


def _words(content: NDArray[np.uint8]) -> NDArray[Any]:
    return content.view("<u4").reshape(-1, 2)
