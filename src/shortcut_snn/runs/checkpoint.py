"""The checkpoint's file: written whole or not at all, read without running code."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from ..files import replacing


class WholeCheckpoint(TorchCheckpointIO):
    """Writes a checkpoint under another name and renames it: a kill or a full disk leaves the old one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save."""
        with replacing(Path(path)) as temporary, temporary.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # Closing its archive after a failed write, torch raises anew and hides why.
                raise (_cause(error) or error) from error


def _cause(error: BaseException) -> OSError | None:
    inner = error.__cause__ or error.__context__
    if inner is None or isinstance(inner, OSError):
        return inner
    return _cause(inner)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint; its tensors are read from the disk when they are looked at.

    Raises:
        ValueError: the file is damaged, or not of plain data alone.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is not a whole checkpoint ({reason}); delete it to start the run anew") from None
    if not isinstance(content, dict) or "loops" not in content or "state_dict" not in content:
        raise ValueError(f"{path} is not a whole checkpoint (it is no run's); delete it to start the run anew")
    return content


def position(checkpoint: dict[str, Any]) -> tuple[int, int]:
    """Return the epoch (from 0) in which a checkpoint was written, or that follows, and its batches done by then."""
    loop = checkpoint["loops"]["fit_loop"]
    epochs, batches = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]["current"]
    done = int(epochs["processed"])
    return done, int(batches["processed"]) if epochs["started"] > done else 0
