"""Readers of event files, one function per format."""

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..reading import DataFileError, one_line, require
from .recording import Events, Sensor, brightened


def read_npy(path: Path) -> Events:
    """Read a structured array ``[n]`` with integer columns x, y and p, and t in microseconds or fractional seconds."""
    array = load_array(path)
    names = array.dtype.names or ()
    if array.ndim != 1 or not set("xytp") <= set(names):
        content = ", ".join(names) or f"{array.dtype} {list(array.shape)}"
        raise DataFileError(f"{path} is not a list of events with the columns x, y, t and p: it has {content}")
    for name in "xytp":
        column = array[name]
        if column.ndim != 1 or column.dtype.kind not in ("iubf" if name == "t" else "iub"):
            raise DataFileError(f"{path} has {column.dtype} for {name}, where integers are needed")
    t = array["t"]
    if t.dtype.kind == "f":
        # All of them beyond int64 would become one time.
        if not (np.abs(t) < 2**52).all():
            raise DataFileError(f"{path} has a time t that is NaN, infinite or beyond 52 bits")
        # Times are seconds if any has a fraction.
        t = np.rint(t.astype(np.float64) * 1e6) if (t % 1).any() else t
    return Events.of(t, array["x"], array["y"], brightened(array["p"], path))


def load_array(path: Path) -> Any:
    """Return the array in a ``.npy`` file."""
    try:
        array = np.load(path, allow_pickle=False)
    # The error that numpy raises depends on where the file is damaged.
    except Exception as error:
        raise DataFileError(f"{path} is cut short, damaged or not a numpy array: {one_line(error)}") from error
    if not isinstance(array, np.ndarray):
        raise DataFileError(f"{path} is an archive of numpy arrays, not an array")
    return array


def _words(path: Path, content: Any, start: int, dtype: DTypeLike, columns: int = 1) -> NDArray[Any]:
    """Return all that follows ``start`` as words, ``[n, columns]``; an event has ``columns`` words."""
    remainder = (len(content) - start) % (np.dtype(dtype).itemsize * columns)
    if remainder:
        raise DataFileError(f"{path} is cut short or not a recording: {remainder} bytes follow the last event")
    return np.frombuffer(content, dtype, offset=start).reshape(-1, columns)


def read_bin(path: Path) -> Events:
    """Read the ATIS format of N-MNIST: no header, and five bytes per event.

    They are x (8 bits), y (8), polarity (1) and microseconds (23), the highest byte first.
    """
    x, y, high, middle, low = _words(path, path.read_bytes(), 0, np.uint8, 5).astype(np.int64).T
    # An event of row 240 marks an overflow of the camera's clock, which has 13 bits.
    overflow = y == 240
    t = ((high & 0x7F) << 16 | middle << 8 | low) + (1 << 13) * np.cumsum(overflow)
    return Events.of(*(column[~overflow] for column in (t, x, y, high >> 7)))


def read_aedat(path: Path, sensor: Sensor, turned: bool = False) -> Events:
    """Read a file of version 2 (jAER: CIFAR10-DVS), 3 (cAER: DVS128 Gesture) or 4 (DV).

    Version 2 files of CIFAR10-DVS have rows and columns exchanged (``turned``).
    """
    content = np.memmap(path, np.uint8, mode="r")
    version = _aedat_version(path, content)
    if version == 4:
        return read_aedat4(path)
    return _read_aedat2(path, content, sensor, turned) if version == 2 else read_aedat3(path, sensor)


def _aedat_version(path: Path, content: NDArray[np.uint8]) -> int:
    match = re.match(rb"#!AER-DAT(\d+)\.\d+\s", content[:64].tobytes())
    if match is None:
        raise DataFileError(f"{path} is not an AEDAT file: it does not start with #!AER-DAT")
    version = int(match[1])
    if version not in (2, 3, 4):
        raise DataFileError(f"{path} has AEDAT version {version}; only versions 2, 3 and 4 can be read")
    return version


# Lines of text up to the last one. They hold text only, or events that happen to start with # would match.
_AEDAT2_HEADER = re.compile(
    rb"((?!#End Of ASCII Header)#[\t\x20-\x7e\x80-\xff]*\r?\n)*(#[\t\x20-\x7e\x80-\xff]*\r?\n)?"
)


def _read_aedat2(path: Path, content: NDArray[np.uint8], sensor: Sensor, turned: bool) -> Events:
    if sensor != (128, 128):
        raise DataFileError(
            f"{path} has AEDAT version 2, which can be read for sensors of 128x128 pixels (height x width), not of"
            f" {sensor[0]}x{sensor[1]}; convert it to AEDAT 4"
        )
    header = _AEDAT2_HEADER.match(content.data)
    assert header is not None
    address, stamps = _words(path, content, header.end(), ">u4", 2).astype(np.uint32).T
    # As in jAER, one of these bits of a DVS128's address is set if the event is of another kind.
    chosen = address & np.uint32(1 << 31 | 1 << 15) == 0
    address, stamps = address[chosen], stamps[chosen]
    # Rows count from the bottom, columns from the right, and the last bit is 0 where the brightness rose.
    y, x = (127 - (address >> shift & 0x7F).astype(np.int64) for shift in (8, 1))
    if turned:
        y, x = x, y
    return Events.of(stamps, x, y, address & 1 == 0)


# Type, source, bytes of an event, offset of its time, overflows of time, capacity, events, valid events.
_PACKET = struct.Struct("<hhiiiiii")
_POLARITY_TYPE = 1


def read_aedat3(path: Path, sensor: Sensor, start: float = -np.inf, end: float = np.inf) -> Events:
    """Read the valid events of a version 3 file with ``start <= t < end`` in microseconds."""
    content = np.memmap(path, np.uint8, mode="r")
    if _aedat_version(path, content) != 3:
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
    header = re.search(rb"#!END-HEADER\r?\n", content[:65536].tobytes())
    if header is None:
        raise DataFileError(f"{path} is cut short or damaged: its header has no end")
    position = header.end()
    while position < len(content):
        body = position + _PACKET.size
        if body > len(content):
            raise DataFileError(f"{path} is cut short: it ends within a packet header")
        kind, _, size, _, overflows, capacity, number, _ = _PACKET.unpack(content[position:body].tobytes())
        if kind & 1 << 15:
            raise DataFileError(f"{path} holds compressed packets, which cannot be read")
        if size < 1 or not 0 <= number <= capacity or overflows < 0 or (kind == _POLARITY_TYPE and size != 8):
            raise DataFileError(f"{path} is damaged: the packet header at byte {position} is not valid")
        position = body + size * capacity
        if position > len(content):
            raise DataFileError(f"{path} is cut short: it ends within a packet")
        if kind == _POLARITY_TYPE and number:
            yield content[body : body + 8 * number].view("<u4").reshape(-1, 2), overflows


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


# Files of Prophesee's cameras: ``.dat``, and ``.raw`` with the encodings EVT 2.0 and EVT 3.0.
_PROPHESEE_HEADER = re.compile(rb"((?!% end[\t ]*\r?\n)% [\t\x20-\x7e]*\r?\n)*(% end[\t ]*\r?\n)?")


def _read_prophesee(path: Path) -> tuple[bytes, bytes]:
    """Return the content of a file, and the lines of text at its start."""
    content = path.read_bytes()
    header = _PROPHESEE_HEADER.match(content)
    if header is None or not header[0]:
        raise DataFileError(f"{path} is not a Prophesee file: its header is missing")
    return content, header[0]


def read_dat(path: Path) -> Events:
    """Read Prophesee's version 2: text lines, the events' type and size, then events of two 32-bit words each."""
    content, header = _read_prophesee(path)
    version = re.search(rb"% Version (\d+)\s", header)
    if version is None or int(version[1]) != 2:
        raise DataFileError(
            f"{path} has Prophesee version {int(version[1]) if version else 1}; only version 2 can be read"
        )
    kind = tuple(content[len(header) : len(header) + 2])
    if len(kind) < 2:
        raise DataFileError(f"{path} is cut short: it ends with its header")
    if kind not in ((0x00, 8), (0x0C, 8)):
        raise DataFileError(f"{path} holds events of type {kind[0]} with {kind[1]} bytes, not brightness changes")
    stamps, word = _words(path, content, len(header) + 2, "<u4", 2).T
    return Events.of(stamps, word & 0x3FFF, word >> 14 & 0x3FFF, word >> 28 & 1)


def refuse_h5(path: Path) -> Events:
    """Refuse a file whose events may need Prophesee's own codec."""
    raise DataFileError(
        f"{path} is HDF5, which is not read: convert Prophesee's with metavision_file_to_dat -i {path.name}, others to "
        ".npy with np.save (columns x, y, t, p)"
    )


def read_raw(path: Path) -> Events:
    """Read the events of a camera as it sent them, in the encodings EVT 2.0 and, with the library evt3, EVT 3.0.

    https://docs.prophesee.ai/stable/data/encoding_formats/
    """
    word_types = {"2": "<u4", "3": "<u2"}
    content, header = _read_prophesee(path)
    match = re.search(rb"% (?:evt |format EVT)([\d.]+)", header)
    encoding = match[1].decode().removesuffix(".0") if match else "an unknown version"
    if encoding not in word_types or b"% endianness big" in header:
        raise DataFileError(
            f"{path} has events in EVT {encoding}; only little-endian EVT 2 and 3 can be read: convert it with"
            f" metavision_file_to_dat -i {path.name}"
        )
    words = _words(path, content, len(header), word_types[encoding])
    if encoding == "2":
        return _decode_evt2(words[:, 0])
    require(".raw (EVT 3)", "evt3")
    import evt3

    try:
        events = evt3.decode_bytes(content[len(header) :])
    except (OSError, ValueError, RuntimeError) as error:
        raise DataFileError(f"{path} is damaged: {one_line(error)}") from error
    return Events.of(events.t, events.x, events.y, events.p)


def _decode_evt2(words: NDArray[np.uint32]) -> Events:
    """Return the events of words; bits 27 to 22 are the low ones of the time, then 11 bits for x and 11 for y."""
    # The highest 4 bits: 0 and 1 for an event of falling and rising brightness, 8 for the clock.
    kind = words >> 28
    is_clock = kind == 8
    # The high bits of the time are those of the last word of the clock, which overflows once in 4.8 hours.
    high = (words[is_clock] & (1 << 28) - 1).astype(np.int64)
    high += np.cumsum(np.diff(high, prepend=high[:1]) < -(1 << 27)) << 28
    clock = np.cumsum(is_clock) - 1
    chosen = (kind <= 1) & (clock >= 0)
    word, rose = words[chosen], kind[chosen]
    t = high[clock[chosen]] << 6 | word >> 22 & 0x3F
    return Events.of(t, word >> 11 & 0x7FF, word & 0x7FF, rose)


_READERS = {
    ".aedat4": read_aedat4, ".bin": read_bin, ".dat": read_dat, ".h5": refuse_h5, ".hdf5": refuse_h5, ".npy": read_npy,
    ".raw": read_raw,
}  # fmt: skip
EXTENSIONS = frozenset({".aedat", *_READERS})
"""File types that can be read, and those that are refused with advice; other files in a class folder are ignored."""


def read_file(path: Path, sensor: Sensor, turned: bool = False) -> Events:
    """Return the events of a file as they are in it; the extension determines its format. See :func:`.read_aedat`."""
    extension = path.suffix.lower()
    return read_aedat(path, sensor, turned) if extension == ".aedat" else _READERS[extension](path)
