"""The state of a run from its opening to its result."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from .. import __version__
from ..data import Data
from .checkpoint import position, read_checkpoint
from .folder import RunFolder
from .interruption import Interruption
from .progress_bar import has_terminal, log_above_bar
from .provenance import Provenance, provenance_of
from .task import Task
from .trainer import quiet_lightning, seeded


@dataclass
class Run:
    """A run that is being trained.

    Attributes:
        folder: of the run.
        provenance: recipe and imports.
        metadata: of the network files.
        seed, threads: of the process.
        checkpoint: the file to resume from; None for a new run.
        epoch, batches_done: the position in training at which the run starts or resumes.
        log: receives lines of text, in the first of several processes only.
    """

    folder: RunFolder
    provenance: Provenance
    metadata: dict[str, Any]
    seed: int
    threads: int | None
    log: Callable[[str], None]
    checkpoint: Path | None = None
    epoch: int = 0
    batches_done: int = 0
    is_finished: bool = False
    interruption: Interruption = field(default_factory=Interruption)

    @classmethod
    def open(
        cls,
        task: Task,
        data: Data,
        folder: str | Path | RunFolder,
        *,
        resume: bool,
        provenance: Provenance | None,
        log: Callable[[str], None],
    ) -> "Run":
        """Check that the run may start or resume in its folder, and find the position from which it resumes.

        Raises:
            ValueError: recipe, data or checkpoint are not those of the run in the folder.
            FileExistsError: the folder holds a run already and ``resume`` is False.
        """
        if not task.description:
            task.describe(data.description)
        folder = folder if isinstance(folder, RunFolder) else RunFolder(folder)
        log = log_above_bar(log) if has_terminal() else log
        run = cls(
            folder,
            provenance or provenance_of(task),
            {"version": __version__, "data": task.description},
            task.training_options.seed,
            task.training_options.threads,
            rank_zero_only(log),
        )
        run.metadata |= run.provenance.network
        if is_first_process():
            run.checkpoint = folder.start(run.provenance.entries, resume)
        elif resume and folder.checkpoint.is_file():
            # The first process has written files since this one was launched, so only it compares recipes.
            run.checkpoint = folder.checkpoint
        run.is_finished = resume and folder.is_finished
        if run.is_finished:
            run.log(f"{folder} is finished already")
        elif task.is_finished:
            raise ValueError("this task has been trained and its branches are removed; build another one for a new run")
        elif run.checkpoint is not None:
            folder.check_data(data.split, data.fingerprint())
            run._read_position()
        if resume:
            folder.log_changed_imports(run.provenance.imports, run.log)
        return run

    def _read_position(self) -> None:
        assert self.checkpoint is not None
        checkpoint = read_checkpoint(self.checkpoint)
        self.epoch, self.batches_done = position(checkpoint)
        history, best = checkpoint["callbacks"].get("History"), self.folder.network("best")
        if history and history["best_epoch"] >= 0 and not best.is_file():
            raise ValueError(f"{best}, the network of the best epoch so far, is missing; restore it from a copy")

    @contextmanager
    def process_state(self) -> Iterator[None]:
        """Lock the folder and set signal handlers, seeds, threads and Lightning's log level, within the block."""
        with ExitStack() as stack:
            stack.enter_context(self.interruption.handlers())
            stack.enter_context(quiet_lightning())
            stack.enter_context(seeded(self.seed, self.threads))
            if is_first_process():
                stack.enter_context(self.folder.locked())
            yield


def is_first_process() -> bool:
    """Return whether this is the first, or only, process of a run."""
    return getattr(rank_zero_only, "rank", 0) == 0
