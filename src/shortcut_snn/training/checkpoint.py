"""The checkpoint's file: written whole or not at all, read without running code."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from ..files import replacing
from .checksums import seal

SEALED = {"sealed": True}
"""Given to Lightning with a checkpoint whose hash is to stand beside it."""


class WholeCheckpoint(TorchCheckpointIO):
    """Writes a checkpoint under another name and renames it: a kill or a full disk leaves the old one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save."""
        with replacing(Path(path)) as temporary:
            with temporary.open("wb") as file:
                try:
                    torch.save(checkpoint, file)
                except RuntimeError as error:
                    # Closing its archive after a failed write, torch raises anew and hides why.
                    raise (_cause(error) or error) from error
            if storage_options == SEALED:
                seal(Path(path), temporary)


def _cause(error: BaseException) -> OSError | None:
    inner = error.__cause__ or error.__context__
    if inner is None or isinstance(inner, OSError):
        return inner
    return _cause(inner)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint; its tensors are read from the disk when they are looked at.

    Raises:
        ValueError: the file is damaged, or not of plain data alone, or lacks what a run needs.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        # Torch's own words advise to read it all the same, which would run whatever it holds.
        reason = "it is damaged, or holds more than plain data" if "weights" in reason.lower() else reason
        raise _no_checkpoint(path, reason) from None
    if not isinstance(content, dict):
        raise _no_checkpoint(path, "it is no run's")
    for name, kind in _ENTRIES.items():
        if not isinstance(content.get(name), kind):
            raise _no_checkpoint(path, f"its entry {name!r} is missing or of another kind")
    states = [each.get("state") if isinstance(each, dict) else None for each in content["optimizer_states"]]
    if not all(isinstance(each, dict) and all(isinstance(own, dict) for own in each.values()) for each in states):
        raise _no_checkpoint(path, "the optimizer's state is damaged")
    try:
        position(content)
    except (KeyError, TypeError, ValueError):
        raise _no_checkpoint(path, "it does not say how far the run has come") from None
    return content


_ENTRIES: dict[str, Any] = {
    "state_dict": dict,
    "loops": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "callbacks": dict,
    "epoch": int,
    "global_step": int,
    "rng": torch.Tensor,
}
"""What a run cannot go on without."""


def _no_checkpoint(path: Path, why: str) -> ValueError:
    return ValueError(
        f"{path} is not a whole checkpoint ({why}); put it back from a copy, or delete it to start the run anew"
    )


def position(checkpoint: dict[str, Any]) -> tuple[int, int]:
    """Return the epoch (from 0) in which a checkpoint was written, or that follows, and its batches done by then."""
    loop = checkpoint["loops"]["fit_loop"]
    epochs, batches = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]["current"]
    done = int(epochs["processed"])
    found = done, int(batches["processed"]) if epochs["started"] > done else 0
    if min(found) < 0:
        raise ValueError(f"no run has done {min(found)} of anything")
    return found
