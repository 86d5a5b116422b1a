"""Files of Prophesee's cameras: ``.dat``, and ``.raw`` with the encodings EVT 2.0 and EVT 3.0."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..reading import DataFileError, one_line, require
from .recording import Events, unwrap

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
    """Refuse a file that needs Prophesee's own codec."""
    raise DataFileError(f"{path} needs the codec of Prophesee; convert it with metavision_file_to_dat -i {path.name}")


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
