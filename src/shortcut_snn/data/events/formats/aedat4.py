"""AEDAT 4, of the DV software (``.aedat4``), as CIFAR10-DVS is downloaded."""

import struct
from pathlib import Path

import numpy as np

from ...errors import one_line
from ..recording import Events, RecordingError, Sensor
from .files import check_libraries

_MAGIC = b"#!AER-DAT4.0\r\n"
_POSITION, _DESCRIPTION = 1, 2


def read_aedat4(path: Path, sensor: Sensor) -> Events:
    """Read the events of the file's first stream of them.

    Raises:
        RecordingError: it is damaged, cut short or no such file.
    """
    check_libraries({".aedat4"})
    import aedat

    try:
        _check_frame(path.read_bytes())
        decoder = aedat.Decoder(str(path))
        first = min(stream for stream, about in decoder.id_to_stream().items() if about["type"] == "events")
        events = np.concatenate([packet["events"] for packet in decoder if packet["stream_id"] == first])
    except (KeyboardInterrupt, SystemExit):
        raise
    # What the decoder raises depends on where the damage is; where it panics, that is not even an Exception.
    except BaseException as error:
        raise RecordingError(f"{path} is cut short, damaged or no AEDAT 4 file: {one_line(error)}") from error
    # Versions of the decoder call the polarity p or on.
    return Events.of(events["t"], events["x"], events["y"], events[(events.dtype.names or ())[3]])


def _check_frame(content: bytes) -> None:
    """Check the header and that the packets fill the file: the decoder trusts them, to the point of ending the process.

    Raises:
        ValueError: they do not.
        struct.error: an offset points out of the file.
    """
    if not content.startswith(_MAGIC):
        raise ValueError("it does not begin with #!AER-DAT4.0")
    start = len(_MAGIC) + 4
    (size,) = struct.unpack_from("<I", content, start - 4)
    header, position = content[start : start + size], start + size
    if len(header) != size:
        raise ValueError("its header is not whole")
    end = _check_header(header)
    end = len(content) if end < 0 else end
    while position < end:
        (size,) = struct.unpack_from("<4xI", content, position)
        position += 8 + size
    if position != end or end > len(content):
        raise ValueError("its last packet is not whole")


def _check_header(header: bytes) -> int:
    """Follow the offsets of a flat buffer and return where the packets end, -1 if it does not say."""
    if header[4:8] != b"IOHE":
        raise ValueError("its header is damaged")
    (table,) = struct.unpack_from("<I", header)
    (back,) = struct.unpack_from("<i", header, table)
    fields = table - back
    (length,) = struct.unpack_from("<H", header, max(fields, 0))
    if fields < 0 or not 4 + 2 * (_DESCRIPTION + 1) <= length <= len(header) - fields:
        raise ValueError("its header is damaged")
    places = struct.unpack_from("<3H", header, fields + 4)
    if not places[_DESCRIPTION]:
        raise ValueError("its header is damaged")
    text = table + places[_DESCRIPTION]
    text += struct.unpack_from("<I", header, text)[0]
    (length,) = struct.unpack_from("<I", header, text)
    if text + 4 + length > len(header):
        raise ValueError("its header is damaged")
    header[text + 4 : text + 4 + length].decode("utf-8")
    end: int = struct.unpack_from("<q", header, table + places[_POSITION])[0] if places[_POSITION] else -1
    return end
