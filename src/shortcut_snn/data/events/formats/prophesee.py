"""Prophesee's files of contrast detection events (``.dat``), version 2."""

import re
from pathlib import Path

import numpy as np

from ...errors import DataFileError
from ..recording import Events, unwrap

_HEADER_LINE = re.compile(rb"% [\t\x20-\x7e]*\r?\n")
_VERSION = re.compile(rb"% Version (\d+)\s")
_CONTRAST_TYPES = (0x00, 0x0C)
_EVENT_BYTES = 8


def read_dat(path: Path) -> Events:
    """Read a file: text lines, the events' type and size, then events of two 32-bit words each."""
    content = path.read_bytes()
    position = 0
    while line := _HEADER_LINE.match(content, position):
        position = line.end()
    if not position:
        raise DataFileError(f"{path} is not a Prophesee file: its header is missing")
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
