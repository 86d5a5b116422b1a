"""A run: a task trained on data, and a folder with everything that is known about it."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from .. import __version__
from ..components import write
from ..data import Data, DataFileError, Loaders, as_data
from ..deploy import load_into, read_network
from ..diagnosis import plots
from ..diagnosis.calibration import calibrate as calibrated_widths
from ..diagnosis.gradients import shallow_to_deep
from ..machine import converts_bf16
from ..neurons import keep_freed_memory
from .callbacks import Average, History, SameRecipe, SaveRun
from .checkpoint import position, read_checkpoint
from .cost import StepCost, summary
from .energy import ENERGY_COLUMNS, energy_rows, measure_task_energy
from .errors import explained
from .folder import Row, RunFolder
from .health import Health
from .interruption import Interruption
from .loggers import as_best, open_loggers
from .numerics import FiniteSteps
from .progress import Progress
from .summary import summary_text
from .sync_norm import synchronise
from .tables import Metric
from .task import Task
from .trainer import MEETING, make_trainer, quiet_lightning, seeded, watched


def fit(
    task: Task,
    data: Any,
    folder: str | Path | RunFolder,
    *,
    resume: bool = False,
    calibrate: bool | None = None,
    loggers: Sequence[Any] = (),
    callbacks: Sequence[Callback] = (),
    entries: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
    imports: Sequence[Row] = (),
    keep_memory: bool = False,
    tell: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train a task on data and leave the run in a folder; see :class:`~.folder.RunFolder` for what it holds.

    What it does to the process (signal handlers, random state, threads, Lightning's log level) is put back.

    Args:
        task: what is learned: model, objective, optimizer, how long. If it has no description, it gets the data's.
        data: a data set of ours, a pair ``(train, test)`` or triple ``(train, validation, test)`` of torch Datasets or
            DataLoaders, or a LightningDataModule; see :func:`shortcut_snn.data.as_data`.
        folder: where the run goes; created.
        resume: go on from the folder's checkpoint, or start if it has none; a finished run is not run again.
        calibrate: give each layer the surrogate width at which the gradient keeps its size, before the first step; by
            default as the task says, which is as its recipe does.
        loggers: components.
        callbacks: Lightning's or the user's, besides those of a run.
        entries: what the run's folder says of how it came about; by default what can be told of the task. A resumed
            run must have the same.
        about: goes into the networks' files.
        imports: what was imported to know the components.
        keep_memory: whether the process may keep freed memory from now on (see
            :func:`~shortcut_snn.neurons.keep_freed_memory`).
        tell: takes lines for a person.

    Returns:
        What ``result.json`` holds.

    Raises:
        ValueError: data or a checkpoint that cannot be used, a loss that is NaN.
        FileExistsError: the folder holds a run already and ``resume`` is false.
        Interrupted: a signal asked the run to stop; a resumed one goes on where it stopped.

    Example:
        >>> import tempfile, torch
        >>> from shortcut_snn import nets
        >>> from shortcut_snn.training import Classification, Training, fit
        >>> images = torch.utils.data.TensorDataset(torch.rand(8, 1, 8, 8), torch.arange(8) % 2)
        >>> network = nets.spiking_resnet8(2, 2, width=2, in_channels=1)
        >>> task = Classification(network, training=Training(epochs=1))
        >>> result = fit(task, (images, images), tempfile.mkdtemp() + "/run", tell=lambda line: None)
        >>> sorted(result["test_last"])
        ['accuracy', 'loss']
    """
    data, folder = as_data(data), folder if isinstance(folder, RunFolder) else RunFolder(folder)
    training, interruption = task.training_options, Interruption()
    if not task.description:
        task.describe(data.description)
    calibrate = task.calibrate if calibrate is None else calibrate
    entries = _entries(task) if entries is None else dict(entries)
    about = {"version": __version__, "data": task.description} | dict(about or {})
    # With several processes one speaks for all.
    tell = rank_zero_only(tell)
    folder.anchor()
    with (
        interruption.listening(),
        quiet_lightning(),
        watched(),
        seeded(training.seed, training.threads),
        ExitStack() as until_the_end,
    ):
        checkpoint = _checkpoint(folder, data, entries, resume)
        if resume and folder.is_finished:
            folder.tell_finished(imports, tell)
            return folder.read_result()
        if task.finished:
            raise ValueError("this task has been trained, and its branches are gone: build another for another run")
        task.total_steps = 0
        progress = Progress(sys.stderr, tell) if sys.stderr is not None and sys.stderr.isatty() else None
        tell = progress.tell if progress else tell
        health = Health(
            network=lambda module: module.model.network,
            silent_layers=training.silent_layers,
            tell=tell,
        )
        cost, average = StepCost(), None if training.average is None else Average(decay=training.average)
        history = History(health, cost)
        widths: dict[str, float] = {}
        told: dict[str, Any] = {**_judged_by(task), "data": {}}

        def begin() -> None:
            folder.begin(entries, data.split, widths, imports, told)

        save = SaveRun(folder, history, about, interruption, training.checkpoint_every, average, begin, tell)
        watchers = [FiniteSteps(training.non_finite, tell), *([average] if average else []), health, cost]
        opened = until_the_end.enter_context(open_loggers(loggers, folder.path))
        watchers += [progress] if progress else []
        watchers += [SameRecipe(entries)] if training.processes > 1 else []
        trainer = make_trainer(
            training,
            opened,
            [*watchers, *callbacks, history, save],
            checkpoints=True,
        )
        if training.sync_batchnorm and trainer.world_size > 1:
            synchronise(task.model.network)
        if keep_memory and trainer.strategy.root_device.type == "cpu":
            keep_freed_memory()
        batches = data.loaders(training.seed, trainer.global_rank, trainer.world_size)
        tell(_begins(task, batches))
        if training.precision == "bf16" and converts_bf16(trainer.strategy.root_device.type):
            tell("this processor has no instructions for bfloat16: training.precision=fp32 is faster here")
        if calibrate:
            if progress and trainer.is_global_zero:
                progress.draw("calibrating the surrogates on the first batch ...")
            widths |= _widths(task, data, folder, checkpoint, trainer)
            about["surrogate_widths"] = widths
        if trainer.is_global_zero:
            until_the_end.enter_context(folder.locked())
            if checkpoint is not None:
                folder.tell_changed(imports, tell)
            told["data"] = _fingerprint(folder, data, checkpoint)
            if checkpoint is None:
                begin()
        for logger in opened:
            logger.log_hyperparams(entries)
        if checkpoint is not None:
            epoch, done = position(read_checkpoint(checkpoint))
            batches.begin(epoch, done)
        if training.nodes > 1:
            tell(f"waiting for all {training.nodes} machines, at most {MEETING.total_seconds() / 60:.0f} minutes")

        @contextmanager
        def mendable() -> Iterator[None]:
            try:
                yield
            except DataFileError:
                if folder.is_run and trainer.is_global_zero:
                    # It is to be mended, and the data will be others then.
                    told["data"] = {}
                    begin()
                raise

        try:
            with mendable():
                trainer.fit(task, batches.train, batches.validation, ckpt_path=checkpoint, weights_only=True)
        except Exception as error:
            told_as = explained(error, checkpoint, save, trainer.world_size, folder)
            if told_as is error:
                raise
            raise told_as from error
        if checkpoint is not None and not save.started and trainer.is_global_zero:
            # All epochs were done before.
            begin()
        if average is not None:
            # Where all epochs were done before, Lightning has put the weights themselves back.
            task.model.network.load_state_dict(average.network(task).state_dict())
        with mendable():
            return _finish(task, data, folder, trainer, batches, history, about, tell)


def _entries(task: Task) -> dict[str, Any]:
    """What can be told of a task that comes of no recipe."""
    return {
        "task": f"{type(task).__module__}.{type(task).__qualname__}",
        "network": type(task.model.network).__qualname__,
        "method": {
            "objective": _said(task.objective),
            "schedule": _said(task.schedule),
            "by_epoch": task.by_epoch,
            "taps": list(task.model.taps.names),
        },
        "optimizer": write(task.optimizer_options),
        "lr_schedule": write(task.lr_schedule),
        "training": write(task.training_options),
    }


def _said(part: Any) -> Any:
    """Entries of a component or a dataclass; anything else by its name, which is the same in every process."""
    return write(part) if is_dataclass(part) else getattr(part, "__qualname__", type(part).__qualname__)


def _begins(task: Task, batches: Loaders) -> str:
    """Say what is about to be trained, and what looks like a mistake."""
    samples, size, steps = batches.samples, batches.batch_size, len(batches.train)
    parts = ", ".join(f"{count:,} {part}" for part, count in samples.items())
    about = f"{_parameters(task):,} parameters; samples: {parts or 'not known'}; {steps:,} steps an epoch"
    if size and samples.get("train", size) < size:
        about += f"\na batch of {size:,} is more than there are to train on: an epoch is one step; try a smaller one"
    return about


def _parameters(task: Task) -> int:
    return sum(parameter.numel() for parameter in task.model.network.parameters())


def _judged_by(task: Task) -> dict[str, Any]:
    """What the figures of a task mean."""
    return {
        "metric": task.metric,
        "higher_is_better": task.higher_is_better,
        "fraction": task.fraction,
        "chance": task.chance,
    }


def _checkpoint(folder: RunFolder, data: Data, entries: Mapping[str, Any], resume: bool) -> Path | None:
    """Return the checkpoint to go on from, None to start anew."""
    # The other processes would meet what the first has written since.
    if getattr(rank_zero_only, "rank", 0) == 0:
        checkpoint = folder.start_from(entries, resume)
    else:
        checkpoint = folder.checkpoint if resume and folder.checkpoint.is_file() else None
    if checkpoint is None:
        return None
    folder.check_split(data.split)
    return checkpoint


def _fingerprint(folder: RunFolder, data: Data, checkpoint: Path | None) -> str:
    """Return the fingerprint of the data; an empty string if it has none.

    Raises:
        ValueError: it is not that of the resumed run.
    """
    now, then = data.fingerprint(), "" if checkpoint is None else folder.fingerprint()
    if now and then and now != then:
        raise ValueError(
            f"the data are no longer those of the run in {folder}: other samples, sizes or contents; put them back as "
            "they were, or name another folder"
        )
    return now


def _widths(
    task: Task, data: Data, folder: RunFolder, checkpoint: Path | None, trainer: pl.Trainer
) -> dict[str, float]:
    if checkpoint is not None:
        return folder.set_widths(task.model.network)
    # Several processes have to find the same widths, to the last digit.
    device = trainer.strategy.root_device if trainer.world_size == 1 else torch.device("cpu")
    return calibrate_task(task, data, device)


def _finish(
    task: Task,
    data: Data,
    folder: RunFolder,
    trainer: pl.Trainer,
    batches: Loaders,
    history: History,
    about: Mapping[str, Any],
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Test the last and the best network, prove that what ships is what was trained, draw the pictures."""

    def load(weights: str) -> None:
        path = folder.network(weights)
        load_into(task.model.network, read_network(path)[0], path)

    def test() -> dict[str, float]:
        found = trainer.test(task, batches.test, verbose=False)[0]
        return {name.removeprefix("test_"): float(value) for name, value in found.items()}

    if trainer.is_global_zero:
        folder.save_network(task.model.network, "last", about)
    trainer.strategy.barrier()
    last, tables, rows = test(), task.tables(), history.rows
    best = last
    if trainer.strategy.broadcast(history.best_epoch) + 1 < len(rows):
        load("best")
        best = as_best(test, trainer.loggers)
        load("last")
    task.model.strip(check=task.ready(data.sample(8))[0])
    task.finished = True
    ratios = [shallow_to_deep({k: v for k, v in row.items() if k != "epoch"}) for row in history.gradients]
    seconds = sorted(row["seconds"] for row in history.seconds)
    validated = batches.validation is not None
    result: dict[str, Any] = {
        "task": about.get("task", type(task).__name__),
        **_judged_by(task),
        "test_last": last,
        "test_best": best,
        "validation_last": _of_row(rows[-1]) if validated else None,
        "validation_best": _of_row(rows[history.best_epoch]) if validated else None,
        "best_epoch": history.best_epoch + 1,
        "best_chosen_on": "validation" if validated else "nothing: no validation data",
        "epochs": len(rows),
        "parameters": _parameters(task),
        "samples": batches.samples,
        "firing_rate": rows[-1].get("firing_rate"),
        "gradient_ratio_first_epoch": _number(ratios[0]),
        "gradient_ratio_last_epoch": _number(ratios[-1]),
        "seconds_per_epoch": seconds[len(seconds) // 2],
        **summary(history.seconds),
        "stripped_equals_trained": True,
    }
    if trainer.is_global_zero:
        metric = Metric.of(result)
        plots.curves(rows, folder / "curves.png", metric.name, metric.label(), metric.scale)
        plots.by_layer(history.gradients, folder / "gradients.png", "gradients of the weights", "RMS")
        for name, found in tables.items():
            folder.write_rows(name, found)
        energy = measure_task_energy(task, data)
        if energy is not None:
            folder.write_rows("energy", energy_rows(energy))
        result |= {f"{name}_pj": getattr(energy, name, None) for name in ENERGY_COLUMNS}
        result["break_even_rate"] = None if energy is None else _number(energy.break_even_rate)
        if kept := data.storage():
            tell(kept)
        folder.finish(result)
        tell(summary_text(result, folder))
    return result


def calibrate_task(task: Task, data: Data, device: torch.device | str = "cpu") -> dict[str, float]:
    """Calibrate surrogates on the main output's loss over the first training batch; return their widths by layer.

    Args:
        task: what will train; it is moved to the device.
        data: what it will train on.
        device: where to calculate.
    """
    task.to(device)
    batch = next(iter(data.loaders(task.training_options.seed).train))
    inputs, target = task.ready(batch)
    with task.as_trained():
        return calibrated_widths(
            task.model.network,
            [(inputs, target)],
            partial(task.loss_of, weight=0.0),
            model=task.model,
        )


def _of_row(row: Mapping[str, Any]) -> dict[str, float]:
    prefix = "validation_"
    return {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}


def _number(value: float) -> float | None:
    # JSON has no word for others.
    return value if math.isfinite(value) else None
