"""AEDAT 4, the format of the DV software and of CIFAR10-DVS's download (``.aedat4``)."""

import struct
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ...errors import one_line
from ..recording import Events, RecordingError

_MAGIC = b"#!AER-DAT4.0\r\n"
# Indices of the header table's fields.
_DATA_END, _DESCRIPTION = 1, 2


def require_decoder() -> None:
    """Check that the library ``aedat`` is installed.

    Raises:
        ValueError: it is missing.
    """
    if find_spec("aedat") is None:
        raise ValueError("reading .aedat4 files needs aedat: pip install 'shortcut-snn[events]'")


def read_aedat4(path: Path) -> Events:
    """Read the file's first stream of events.

    Raises:
        RecordingError: the file is damaged, cut short or has another format.
    """
    require_decoder()
    import aedat

    try:
        _check_packets(path.read_bytes())
        decoder = aedat.Decoder(str(path))
        first = min(stream for stream, about in decoder.id_to_stream().items() if about["type"] == "events")
        events = np.concatenate([packet["events"] for packet in decoder if packet["stream_id"] == first])
    except (KeyboardInterrupt, SystemExit):
        raise
    # BaseException, because a panic of the decoder, which is written in Rust, is not an Exception.
    except BaseException as error:
        raise RecordingError(f"{path} is cut short, damaged or not an AEDAT 4 file: {one_line(error)}") from error
    # The fourth field is the polarity, which versions of the decoder call p or on.
    return Events.of(events["t"], events["x"], events["y"], events[(events.dtype.names or ())[3]])


def _check_packets(content: bytes) -> None:
    """Check that the header and the packets fill the file, because the decoder crashes if they do not.

    Raises:
        ValueError: a part is not whole.
        struct.error: an offset points outside the file.
    """
    if not content.startswith(_MAGIC):
        raise ValueError("it does not start with #!AER-DAT4.0")
    (size,) = struct.unpack_from("<I", content, len(_MAGIC))
    start = len(_MAGIC) + 4
    header, position = content[start : start + size], start + size
    if len(header) != size:
        raise ValueError("its header is not whole")
    end = _data_end(header)
    end = len(content) if end < 0 else end
    while position < end:
        (size,) = struct.unpack_from("<4xI", content, position)
        position += 8 + size
    if position != end or end > len(content):
        raise ValueError("its last packet is not whole")


def _data_end(header: bytes) -> int:
    """Return the position at which the packets end, from the header, a FlatBuffers table; -1 if it is not there.

    A table starts with the distance back to its vtable. The vtable holds its own length, the table's length, and the
    offset of each field within the table, 0 for a missing field. A string field holds the distance to its length.
    """
    damaged = ValueError("its header is damaged")
    if header[4:8] != b"IOHE":
        raise damaged
    (table,) = struct.unpack_from("<I", header)
    vtable = table - struct.unpack_from("<i", header, table)[0]
    if vtable < 0:
        raise damaged
    (length,) = struct.unpack_from("<H", header, vtable)
    if not 4 + 2 * (_DESCRIPTION + 1) <= length <= len(header) - vtable:
        raise damaged
    offsets = struct.unpack_from("<3H", header, vtable + 4)
    if not offsets[_DESCRIPTION]:
        raise damaged
    text = table + offsets[_DESCRIPTION]
    text += struct.unpack_from("<I", header, text)[0]
    (length,) = struct.unpack_from("<I", header, text)
    if text + 4 + length > len(header):
        raise damaged
    header[text + 4 : text + 4 + length].decode("utf-8")
    end: int = struct.unpack_from("<q", header, table + offsets[_DATA_END])[0] if offsets[_DATA_END] else -1
    return end
