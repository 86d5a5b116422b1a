"""The state of a run from its opening to its result."""

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn
from tqdm import tqdm

from .. import __version__
from ..data import Data
from ..deploy import round_weights
from ..deploy.integer_graph import check_integer_form
from ..deploy.safetensors_files import describe_branches, save_network
from ..method import Shortcut
from .folder import RunFolder
from .interruption import Interruption, handling_signals
from .options import Training
from .provenance import Provenance
from .task import Task
from .trainer import has_terminal, position, quiet_lightning, read_checkpoint, seeded

_process_is_free = threading.Lock()
"""Held by the run that trains in this process."""


@dataclass
class Run:
    """A run that is opened in its folder, for :func:`fit`."""

    folder: RunFolder
    provenance: Provenance
    log: Callable[[str], None]
    """Receives lines of text, in the first of several processes only."""
    checkpoint: Path | None = None
    """The file to resume from; None for a new run."""
    checkpoint_time: int | None = None
    """When the folder's checkpoint was written, at the opening of the run."""
    is_finished: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)
    # The position in training at which the run starts or resumes, and the training loader's state there, if it has one.
    epoch: int = 0
    batches_done: int = 0
    loader_state: list[dict[str, Any]] = field(default_factory=list)
    interruption: Interruption = field(default_factory=Interruption)

    @classmethod
    def open(
        cls, folder: str | Path, provenance: Provenance, *, resume: bool = False, log: Callable[[str], None] = print
    ) -> "Run":
        """Check that a run may start, or with ``resume`` also resume, in a folder, before its data are read."""
        # Lines are written above the progress bar, which is drawn again below them.
        log = tqdm.external_write_mode()(log) if has_terminal() else log
        run = cls(RunFolder(folder), provenance, rank_zero_only(log))
        run.checkpoint_time = run.folder.checkpoint_time
        if is_first_process():
            run.checkpoint = run.folder.start(provenance.entries, resume)
        elif resume and run.folder.checkpoint.is_file():
            # The first process has written files since this one was launched, so only it compares recipes.
            run.checkpoint = run.folder.checkpoint
        run.is_finished = resume and run.folder.is_finished
        if run.is_finished:
            run.log(f"{folder} is finished already")
        if resume and (changed := run.folder.changed_imports(provenance.imports)):
            run.log(f"{', '.join(changed)} changed since the run started")
        return run

    def begin(self, task: Task, data: Data) -> None:
        """Check that task and data fit the run, and find the position at which it starts or resumes."""
        if task.is_finished:
            raise ValueError("this task is trained and its branches are removed; build another task for a new run")
        if not task.description:
            task.describe(data.description)
        _check_state(task.model.network)
        self.metadata = {"version": __version__, "data": task.description, **self.provenance.network}
        # Before the first epoch is spent.
        if task.method.weight_bits is not None:
            check_integer_form(task.model.network)
        self._kept_branches(task, task.model)
        if self.checkpoint is None:
            return
        self.folder.check_data(data.split, data.fingerprint())
        checkpoint = read_checkpoint(self.checkpoint)
        self.epoch, self.batches_done = position(checkpoint)
        self.loader_state = checkpoint["loops"]["fit_loop"]["state_dict"].get("combined_loader", [])
        history, best = checkpoint["callbacks"].get("History"), self.folder.network("best")
        if history and history["best_epoch"] >= 0 and not best.is_file():
            raise ValueError(self.folder.lost_best)

    def save_network(self, task: Task, weights: str, model: Shortcut | None = None) -> None:
        """Write the network of the ``"last"`` or the ``"best"`` epoch; ``model`` may be an average of its weights."""
        model = task.model if model is None else model
        branches, about = self._kept_branches(task, model)
        network, bits = model.network, task.method.weight_bits
        if bits is not None:
            # The weights that training continues with are not rounded.
            network = copy.deepcopy(network)
            round_weights(network, bits)
        save_network(network, self.folder.network(weights), {**self.metadata, **about}, branches)

    def _kept_branches(self, task: Task, model: Shortcut) -> tuple[dict[str, nn.Module], dict[str, Any]]:
        method = task.method.branches
        if method is None or not method.keep:
            return {}, {}
        branches = dict(zip(task.model.taps.names, model.branches, strict=True))
        return branches, describe_branches(branches, method.head, task.model.layout.num_classes)

    @contextmanager
    def process_state(self, training: Training) -> Iterator[None]:
        """Lock the folder and set signal handlers, seeds, threads and Lightning's log level, within the block."""
        if not _process_is_free.acquire(blocking=False):
            raise ValueError("another run trains in this process and would share its random states; use two processes")
        with ExitStack() as stack:
            stack.callback(_process_is_free.release)
            # Lightning leaves gradients on.
            stack.enter_context(torch.enable_grad())
            stack.enter_context(handling_signals(self.interruption.handle))
            stack.enter_context(quiet_lightning())
            stack.enter_context(seeded(training.seed, training.threads))
            if is_first_process():
                stack.enter_context(self.folder.locked())
                if self.folder.checkpoint_time != self.checkpoint_time:
                    raise ValueError(
                        f"another process has trained in {self.folder} meanwhile: resume it, or name another folder"
                    )
            yield


def is_first_process() -> bool:
    """Return whether this is the first, or only, process of a run."""
    return getattr(rank_zero_only, "rank", 0) == 0


def _check_state(network: nn.Module) -> None:
    """Raise an error if the state of a network cannot be saved and loaded, before the first epoch is spent."""
    for name, value in network.state_dict().items():
        is_dense = isinstance(value, Tensor) and value.layout is torch.strided
        if not is_dense or (0 in value.stride() and value.numel() > 1):
            raise ValueError(
                f"the network's state {name!r} cannot be saved: it is not a tensor, or it is sparse or expanded; make "
                "it a dense tensor, or keep it out of state_dict()"
            )
