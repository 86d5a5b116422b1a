"""The checkpoint file: written whole or not at all, and read without running code."""

from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch

from ..files import replacing


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint under a temporary name and rename it, so that a kill leaves the previous one."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(checkpoint, file)
        except RuntimeError as error:
            # torch hides the operating system's error behind one of its archive writer.
            raise (_os_error(error) or error) from error


def _os_error(error: BaseException) -> OSError | None:
    inner = error.__cause__ or error.__context__
    return inner if inner is None or isinstance(inner, OSError) else _os_error(inner)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a run's checkpoint; its tensors stay on disk until they are used.

    The file is a zip archive with a CRC for each entry, so a flipped bit is found here.
    """
    try:
        with ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise BadZipFile("wrong CRC")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        position(checkpoint)
    except Exception as error:
        # torch's own message recommends weights_only=False, which would run code from the file.
        reason = (
            "it is damaged, or holds more than plain data" if "weights" in str(error).lower() else f"{error!r:.100}"
        )
        raise ValueError(
            f"{path} is not a checkpoint of a run ({reason}); restore it from a copy, or delete it to start again"
        ) from None
    return dict(checkpoint)


def position(checkpoint: dict[str, Any]) -> tuple[int, int]:
    """Return the epoch to resume in (from 0), and the number of its batches that are done."""
    loop = checkpoint["loops"]["fit_loop"]
    epochs, batches = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]["current"]
    completed = int(epochs["processed"])
    return completed, int(batches["processed"]) if epochs["started"] > completed else 0
