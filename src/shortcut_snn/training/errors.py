"""What ends training, said to a person: what was wrong, and what to do."""

from pathlib import Path

from ..data import PATIENCE
from .callbacks import SaveRun
from .folder import RunFolder


def explained(error: Exception, checkpoint: Path | None, save: SaveRun, processes: int, folder: RunFolder) -> Exception:
    """Return an error of training as a sentence, where it is known what it means; else as it is.

    Args:
        error: what training ended with.
        checkpoint: what it was to go on from.
        save: which knows whether it did.
        processes: how many train together.
        folder: of the run.
    """
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, RuntimeError) and "DataLoader" in said:
        return ValueError(
            f"a process that loads data (data.workers) was killed or gave nothing for {PATIENCE} s: is there enough "
            f"memory, and shared memory (/dev/shm)? What the steps before have done is saved; go on with --resume, "
            f"with fewer data.workers ({said[:200]})"
        )
    if isinstance(error, RuntimeError) and "without overflow" in said:
        return ValueError(
            "a number of the optimizer is too large for the weights' type: try a lower optimizer.lr or weight_decay"
            f" ({said[:200]})"
        )
    lost = ("gloo", "nccl", "connection", "store", "socket", "timed out", "timeout")
    if processes > 1 and isinstance(error, RuntimeError) and any(word in said.lower() for word in lost):
        return ValueError(
            f"another of the {processes} processes has ended or cannot be reached: look at what it said last. Start "
            f"all of them again with --resume: the run goes on from its last checkpoint ({said[:200]})"
        )
    # Taken up, but not used yet: what it holds may be at fault. What is told in a sentence is told after that.
    told = OSError if not save.restored else OSError | ValueError
    if checkpoint is not None and not save.started and not isinstance(error, told) and "memory" not in said:
        return ValueError(
            f"the run in {folder} does not go on from {checkpoint} ({type(error).__name__}: {said[:200]}); if nothing "
            "else has changed since it was written, put it back from a copy"
        )
    return error
