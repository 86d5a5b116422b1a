"""Readers of event files, one function per format; AEDAT has a file of its own."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..reading import DataFileError, one_line, require
from .aedat import read_aedat, read_aedat4
from .recording import Events, Sensor, brightened, unwrap


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
    elif t.dtype == np.uint32:
        t = unwrap(t)
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


_ATIS_BYTES = 5
# An event of this row marks an overflow of the camera's clock.
_OVERFLOW_ROW, _OVERFLOW_TIME = 240, 1 << 13


def read_bin(path: Path) -> Events:
    """Read the ATIS format of N-MNIST: no header, and five bytes per event.

    They are x (8 bits), y (8), polarity (1) and microseconds (23), the highest byte first.
    """
    content = np.fromfile(path, np.uint8)
    remainder = len(content) % _ATIS_BYTES
    if remainder:
        raise DataFileError(f"{path} is cut short or not a recording: {remainder} bytes follow the last event")
    x, y, high, middle, low = content.reshape(-1, _ATIS_BYTES).astype(np.int64).T
    overflow = y == _OVERFLOW_ROW
    t = ((high & 0x7F) << 16 | middle << 8 | low) + _OVERFLOW_TIME * np.cumsum(overflow)
    return Events.of(*(column[~overflow] for column in (t, x, y, high >> 7)))


# Files of Prophesee's cameras: ``.dat``, and ``.raw`` with the encodings EVT 2.0 and EVT 3.0.

_HEADER_LINE = re.compile(rb"% [\t\x20-\x7e]*\r?\n")
_LAST_LINE = b"% end"


def _read_header(path: Path) -> tuple[bytes, int]:
    """Return the content of a file and the length of the lines of text before its events."""
    content = path.read_bytes()
    position = 0
    while line := _HEADER_LINE.match(content, position):
        position = line.end()
        if line[0].rstrip() == _LAST_LINE:
            break
    if not position:
        raise DataFileError(f"{path} is not a Prophesee file: its header is missing")
    return content, position


_VERSION = re.compile(rb"% Version (\d+)\s")
_CONTRAST_TYPES = (0x00, 0x0C)
_EVENT_BYTES = 8


def read_dat(path: Path) -> Events:
    """Read Prophesee's version 2: text lines, the events' type and size, then events of two 32-bit words each."""
    content, position = _read_header(path)
    version = _VERSION.search(content[:position])
    if version is None or int(version[1]) != 2:
        raise DataFileError(
            f"{path} has Prophesee version {int(version[1]) if version else 1}; only version 2 can be read"
        )
    kind = tuple(content[position : position + 2])
    if len(kind) < 2:
        raise DataFileError(f"{path} is cut short: it ends with its header")
    if kind[0] not in _CONTRAST_TYPES or kind[1] != _EVENT_BYTES:
        raise DataFileError(f"{path} holds events of type {kind[0]} with {kind[1]} bytes, not brightness changes")
    remainder = (len(content) - position - 2) % _EVENT_BYTES
    if remainder:
        raise DataFileError(f"{path} is cut short: {remainder} bytes follow the last event")
    stamps, word = np.frombuffer(content, "<u4", offset=position + 2).reshape(-1, 2).T
    return Events.of(unwrap(stamps), word & 0x3FFF, word >> 14 & 0x3FFF, word >> 28 & 1)


def refuse_h5(path: Path) -> Events:
    """Refuse a file whose events may need Prophesee's own codec."""
    raise DataFileError(
        f"{path} is HDF5, which is not read: convert Prophesee's with metavision_file_to_dat -i {path.name}, others to "
        ".npy with np.save (columns x, y, t, p)"
    )


_ENCODING = re.compile(rb"% (?:evt |format EVT)([\d.]+)")
_WORD_BYTES = {"2": 4, "3": 2}


def read_raw(path: Path) -> Events:
    """Read the events of a camera as it sent them, in the encodings EVT 2.0 and, with the library evt3, EVT 3.0.

    https://docs.prophesee.ai/stable/data/encoding_formats/
    """
    content, position = _read_header(path)
    match = _ENCODING.search(content[:position])
    encoding = match[1].decode().removesuffix(".0") if match else "an unknown version"
    if encoding not in _WORD_BYTES or b"% endianness big" in content[:position]:
        raise DataFileError(
            f"{path} has events in EVT {encoding}; only little-endian EVT 2 and 3 can be read: convert it with"
            f" metavision_file_to_dat -i {path.name}"
        )
    remainder = (len(content) - position) % _WORD_BYTES[encoding]
    if remainder:
        raise DataFileError(f"{path} is cut short: {remainder} bytes follow the last event")
    if encoding == "2":
        return _decode_evt2(np.frombuffer(content, "<u4", offset=position))
    require(".raw (EVT 3)", "evt3")
    import evt3

    try:
        events = evt3.decode_bytes(content[position:])
    except (OSError, ValueError, RuntimeError) as error:
        raise DataFileError(f"{path} is damaged: {one_line(error)}") from error
    return Events.of(events.t, events.x, events.y, events.p)


# The types of a 32-bit word, its highest 4 bits: an event of falling or rising brightness, or the clock.
_FALL, _RISE, _TIME_HIGH = 0, 1, 8
_HIGH_BITS, _LOW_BITS = 28, 6


def _decode_evt2(words: NDArray[np.uint32]) -> Events:
    """Return the events of words; bits 27 to 22 are the low ones of the time, then 11 bits for x and 11 for y."""
    kind = words >> _HIGH_BITS
    is_clock = kind == _TIME_HIGH
    # The high bits of the time are those of the last word of the clock, which overflows once in 4.8 hours.
    high = (words[is_clock] & (1 << _HIGH_BITS) - 1).astype(np.int64)
    high += np.cumsum(np.diff(high, prepend=high[:1]) < -(1 << _HIGH_BITS - 1)) << _HIGH_BITS
    clock = np.cumsum(is_clock) - 1
    chosen = ((kind == _FALL) | (kind == _RISE)) & (clock >= 0)
    word = words[chosen]
    t = high[clock[chosen]] << _LOW_BITS | word >> 22 & 0x3F
    return Events.of(t, word >> 11 & 0x7FF, word & 0x7FF, word >> _HIGH_BITS)


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
