"""AEDAT 4, the format of the DV software and of CIFAR10-DVS's download (``.aedat4``)."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ...errors import DataFileError, one_line
from ..recording import Events


def require_decoder() -> None:
    """Check that the library ``aedat`` is installed."""
    if find_spec("aedat") is None:
        raise ValueError("reading .aedat4 files needs aedat: pip install 'shortcut-snn[events]'")


def read_aedat4(path: Path) -> Events:
    """Read the file's first stream of events."""
    require_decoder()
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
