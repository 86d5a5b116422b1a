"""Prophesee's files of change detections (``.dat``), version 2."""

import re
from pathlib import Path

import numpy as np

from ..recording import Events, RecordingError, Sensor, unwrapped

_HEADER_LINE = re.compile(rb"% [\t\x20-\x7e]*\r?\n")
_VERSION = re.compile(rb"% Version (\d+)\s")
_CHANGES = (0x00, 0x0C)


def read_dat(path: Path, sensor: Sensor) -> Events:
    """Read the file.

    Raises:
        RecordingError: it is another version, holds events of another kind, is cut short, or is no such file.
    """
    content = path.read_bytes()
    position = 0
    while line := _HEADER_LINE.match(content, position):
        position = line.end()
    if not position:
        raise RecordingError(f"{path} is no Prophesee file: its header is missing")
    version = _VERSION.search(content[:position])
    if version is None or int(version[1]) != 2:
        raise RecordingError(f"{path} is of Prophesee version {int(version[1]) if version else 1}; version 2 is read")
    kind = tuple(content[position : position + 2])
    if len(kind) < 2:
        raise RecordingError(f"{path} is cut short: it ends with its header")
    if kind[0] not in _CHANGES or kind[1] != 8:
        raise RecordingError(f"{path} holds events of type {kind[0]} with {kind[1]} bytes, not changes of brightness")
    left = (len(content) - position - 2) % 8
    if left:
        raise RecordingError(f"{path} is cut short: {left} bytes are left after the last whole event")
    time, word = np.frombuffer(content, "<u4", offset=position + 2).reshape(-1, 2).T
    return Events.of(unwrapped(time), word & 0x3FFF, word >> 14 & 0x3FFF, word >> 28 & 1)
