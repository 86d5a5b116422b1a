"""AEDAT files: version 2 (jAER: CIFAR10-DVS), 3 (cAER: DVS128 Gesture) and 4 (DV: ``.aedat4``)."""

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..reading import DataFileError, one_line, require
from .recording import Events, Sensor, unwrap


def read_aedat4(path: Path) -> Events:
    """Read the file's first stream of events."""
    require(".aedat4", "aedat")
    import aedat

    try:
        decoder = aedat.Decoder(str(path))
        first = min(stream for stream, about in decoder.id_to_stream().items() if about["type"] == "events")
        events = np.concatenate([packet["events"] for packet in decoder if packet["stream_id"] == first])
    except (KeyboardInterrupt, SystemExit):
        raise
    # BaseException, because a panic of the decoder, which is written in Rust, is not an Exception.
    except BaseException as error:
        raise DataFileError(f"{path} is cut short, damaged or not an AEDAT 4 file: {one_line(error)}") from error
    # The fourth field is the polarity, which versions of the decoder call p or on.
    return Events.of(events["t"], events["x"], events["y"], events[(events.dtype.names or ())[3]])


# A header line holds text only; without that condition, events that happen to start with # would match.
_HEADER_LINE = re.compile(rb"#[\t\x20-\x7e\x80-\xff]*\r?\n")
_LAST_LINE = b"#End Of ASCII Header"
_VERSION = re.compile(rb"#!AER-DAT(\d+)\.\d+\s")
_END_OF_HEADER = re.compile(rb"#!END-HEADER\r?\n")


def read_aedat(path: Path, sensor: Sensor, turned: bool = False) -> Events:
    """Read a file of version 2, 3 or 4. Version 2 files of CIFAR10-DVS have rows and columns exchanged (``turned``)."""
    content = np.memmap(path, np.uint8, mode="r")
    version = _version(path, content)
    if version == 4:
        return read_aedat4(path)
    return _read_aedat2(path, content, sensor, turned) if version == 2 else read_aedat3(path, sensor)


def _version(path: Path, content: NDArray[np.uint8]) -> int:
    match = _VERSION.match(content[:64].tobytes())
    if match is None:
        raise DataFileError(f"{path} is not an AEDAT file: it does not start with #!AER-DAT")
    version = int(match[1])
    if version not in (2, 3, 4):
        raise DataFileError(f"{path} has AEDAT version {version}; only versions 2, 3 and 4 can be read")
    return version


# Bits that are set in an AEDAT 2 address of a DVS128, as in jAER, if the event is of another kind.
_OTHER_KINDS = 1 << 31 | 1 << 15


def _read_aedat2(path: Path, content: NDArray[np.uint8], sensor: Sensor, turned: bool) -> Events:
    if sensor != (128, 128):
        raise DataFileError(
            f"{path} has AEDAT version 2, which can be read for sensors of 128x128 pixels (height x width), not of"
            f" {sensor[0]}x{sensor[1]}; convert it to AEDAT 4"
        )
    start = _end_of_text(content)
    remainder = (len(content) - start) % 8
    if remainder:
        raise DataFileError(f"{path} is cut short: {remainder} bytes follow the last event")
    address, stamps = content[start:].view(">u4").reshape(-1, 2).astype(np.uint32).T
    chosen = address & np.uint32(_OTHER_KINDS) == 0
    address, stamps = address[chosen], stamps[chosen]
    # Rows count from the bottom, columns from the right, and the last bit is 0 where the brightness rose.
    y, x = (127 - (address >> shift & 0x7F).astype(np.int64) for shift in (8, 1))
    if turned:
        y, x = x, y
    return Events.of(unwrap(stamps), x, y, address & 1 == 0)


def _end_of_text(content: NDArray[np.uint8]) -> int:
    position = 0
    while line := _HEADER_LINE.match(content.data, position):
        position = line.end()
        if line[0].startswith(_LAST_LINE):
            break
    return position


# Type, source, bytes of an event, offset of its time, overflows of time, capacity, events, valid events.
_PACKET = struct.Struct("<hhiiiiii")
_POLARITY_TYPE = 1
_COMPRESSED = 1 << 15


def read_aedat3(path: Path, sensor: Sensor, start: float = -np.inf, end: float = np.inf) -> Events:
    """Read the valid events of a version 3 file with ``start <= t < end`` in microseconds."""
    content = np.memmap(path, np.uint8, mode="r")
    if _version(path, content) != 3:
        raise DataFileError(f"{path} does not have AEDAT version 3")
    times, words = [np.empty(0, np.int64)], [np.empty(0, np.uint32)]
    for packet, overflows in _polarity_packets(path, content):
        t = packet[:, 1].astype(np.int64) | overflows << 31
        # Packets are in order of time, so most of a long file need not be filtered event by event.
        if t[-1] < start or t[0] >= end:
            continue
        word = packet[:, 0]
        chosen = (word & 1 == 1) & (t >= start) & (t < end)
        times.append(t[chosen])
        words.append(word[chosen])
    word = np.concatenate(words)
    return Events.of(np.concatenate(times), word >> 17, word >> 2 & 0x7FFF, word >> 1 & 1)


def _polarity_packets(path: Path, content: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.uint32], int]]:
    """Yield the events of each polarity packet, ``[n, 2]`` of data and time, and the number of overflows of time."""
    header_end = _END_OF_HEADER.search(content[:65536].tobytes())
    if header_end is None:
        raise DataFileError(f"{path} is cut short or damaged: its header has no end")
    position = header_end.end()
    while position < len(content):
        body = position + _PACKET.size
        if body > len(content):
            raise DataFileError(f"{path} is cut short: it ends within a packet header")
        kind, _, size, _, overflows, capacity, number, _ = _PACKET.unpack(content[position:body].tobytes())
        if kind & _COMPRESSED:
            raise DataFileError(f"{path} holds compressed packets, which cannot be read")
        if size < 1 or not 0 <= number <= capacity or overflows < 0 or (kind == _POLARITY_TYPE and size != 8):
            raise DataFileError(f"{path} is damaged: the packet header at byte {position} is not valid")
        position = body + size * capacity
        if position > len(content):
            raise DataFileError(f"{path} is cut short: it ends within a packet")
        if kind == _POLARITY_TYPE and number:
            yield content[body : body + 8 * number].view("<u4").reshape(-1, 2), overflows
