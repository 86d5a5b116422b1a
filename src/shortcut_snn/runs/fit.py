"""A run: a task trained on data, and a folder with everything that is known about it."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from .. import __version__
from ..analysis import plots
from ..analysis.calibration import calibrate as calibrated_widths
from ..analysis.gradients import shallow_to_deep
from ..components import write
from ..data import Data, Loaders, as_data
from ..deploy.weights import load_into, read_network
from ..neurons import keep_freed_memory
from .average import Average
from .callbacks import History, SaveRun
from .checkpoint import position, read_checkpoint
from .cost import StepCost, summary
from .energy import energy_rows, run_energy
from .folder import Row, RunFolder
from .health import Health
from .interruption import Interruption
from .loggers import make_loggers
from .numerics import FiniteSteps
from .sync_norm import synchronise
from .tables import figure
from .task import Task
from .trainer import make_trainer, quiet, seeded


def fit(
    task: Task,
    data: Any,
    folder: str | Path,
    *,
    resume: bool = False,
    calibrate: bool = False,
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
        calibrate: give each layer the surrogate width at which the gradient keeps its size, before the first step.
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
        >>> from shortcut_snn.runs import Classification, Training, fit
        >>> images = torch.utils.data.TensorDataset(torch.rand(8, 1, 8, 8), torch.arange(8) % 2)
        >>> network = nets.spiking_resnet20(2, 2, width=2, in_channels=1)
        >>> task = Classification(network, training=Training(epochs=1))
        >>> result = fit(task, (images, images), tempfile.mkdtemp() + "/run", tell=lambda line: None)
        >>> sorted(result["test_last"])
        ['accuracy', 'loss']
    """
    interruption = Interruption()
    run = _Run(task, as_data(data), RunFolder(folder), tell)
    task.description = task.description or dict(run.data.description)
    training = task.training_options
    with interruption.listening(), quiet(), seeded(training.seed, training.threads):
        run.entries = dict(entries) if entries is not None else _entries(task)
        run.about = {"version": __version__, "data": dict(task.description)} | dict(about or {})
        return run.go(resume, calibrate, loggers, callbacks, imports, keep_memory, interruption)


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


class _Run:
    """One run, step by step."""

    def __init__(self, task: Task, data: Data, folder: RunFolder, tell: Callable[[str], None]) -> None:
        self.task, self.data, self.folder = task, data, folder
        # With several processes one speaks for all.
        self.tell = rank_zero_only(tell)
        self.entries: dict[str, Any] = {}
        self.about: dict[str, Any] = {}

    def go(
        self,
        resume: bool,
        calibrate: bool,
        loggers: Sequence[Any],
        callbacks: Sequence[Callback],
        imports: Sequence[Row],
        keep_memory: bool,
        interruption: Interruption,
    ) -> dict[str, Any]:
        """Train, test, and return the result."""
        checkpoint = self._checkpoint(resume)
        if resume and self.folder.is_finished:
            self.tell(f"{self.folder} is finished already")
            return self.folder.read_result()
        task, training = self.task, self.task.training_options
        terminal = sys.stderr.isatty()
        health = Health(
            self.folder / "layers.csv",
            network=lambda module: module.model.network,
            silent_layers=training.silent_layers,
            tell=self.tell,
        )
        cost, average = StepCost(), None if training.average is None else Average(decay=training.average)
        history = History(self.folder, health, cost, None if terminal else self.tell)
        save = SaveRun(self.folder, history, self.about, interruption, training.checkpoint_every, average)
        watchers = [FiniteSteps(training.non_finite, self.tell), *([average] if average else []), health, cost]
        trainer = make_trainer(
            training,
            make_loggers(tuple(loggers), self.folder.path),
            [*watchers, *callbacks, history, save],
            checkpoints=True,
            terminal=terminal,
        )
        if training.sync_batchnorm and trainer.world_size > 1:
            synchronise(task.model.network)
        if keep_memory and trainer.strategy.root_device.type == "cpu":
            keep_freed_memory()
        batches = self.data.loaders(training.seed, trainer.global_rank, trainer.world_size)
        widths = self._widths(calibrate, checkpoint, trainer)
        with ExitStack() as until_the_end:
            if trainer.is_global_zero:
                until_the_end.enter_context(self.folder.locked())
                self.folder.begin(self.entries, self.data.split, widths, imports)
            if checkpoint is not None:
                batches.begin(*position(read_checkpoint(checkpoint)))
            trainer.fit(task, batches.train, batches.validation, ckpt_path=checkpoint, weights_only=True)
            return self._finish(trainer, batches, history)

    def _checkpoint(self, resume: bool) -> Path | None:
        # The other processes would meet what the first has written since.
        if getattr(rank_zero_only, "rank", 0) == 0:
            checkpoint = self.folder.start_from(self.entries, resume)
        else:
            checkpoint = self.folder.checkpoint if resume and self.folder.checkpoint.is_file() else None
        if checkpoint is None:
            return None
        split = self.data.split
        if split and self.folder.split.read_text(encoding="utf-8") != split:
            raise ValueError(
                f"the recordings or their split are no longer those of the run, which are listed in "
                f"{self.folder.split}; put them back, or name another folder"
            )
        return checkpoint

    def _widths(self, calibrate: bool, checkpoint: Path | None, trainer: pl.Trainer) -> dict[str, float]:
        if not calibrate:
            return {}
        if checkpoint is not None:
            widths = self.folder.set_widths(self.task.model.network)
        else:
            # Several processes have to find the same widths, to the last digit.
            device = trainer.strategy.root_device if trainer.world_size == 1 else torch.device("cpu")
            widths = calibrate_task(self.task, self.data, device)
        self.about["surrogate_widths"] = widths
        return widths

    def _finish(self, trainer: pl.Trainer, batches: Loaders, history: History) -> dict[str, Any]:
        """Test the last and the best network, prove that what ships is what was trained, draw the pictures."""
        task, folder = self.task, self.folder
        tested = {}
        for weights in ("last", "best"):
            if weights == "last" and trainer.is_global_zero:
                folder.save_network(task.model.network, "last", self.about)
            trainer.strategy.barrier()
            if weights == "best":
                self._load("best")
            tested[weights] = _figures(trainer, task, batches.test)
        self._load("last")
        sample = self._sample(batches)
        if sample is not None:
            task.model.strip(check=sample)
        rows = history.rows
        ratios = [shallow_to_deep({k: v for k, v in row.items() if k != "epoch"}) for row in history.gradients]
        seconds = sorted(row["seconds"] for row in history.seconds)
        validated = batches.validation is not None
        result: dict[str, Any] = {
            "task": self.about.get("task", type(task).__name__),
            "metric": task.metric,
            "higher_is_better": task.higher_is_better,
            "fraction": task.fraction,
            "chance": task.chance,
            "test_last": tested["last"],
            "test_best": tested["best"],
            "validation_last": _of_row(rows[-1]) if validated else None,
            "validation_best": _of_row(rows[history.best_epoch]) if validated else None,
            "best_epoch": history.best_epoch + 1,
            "best_chosen_on": "validation" if validated else "nothing: no validation data",
            "epochs": len(rows),
            "parameters": sum(parameter.numel() for parameter in task.model.network.parameters()),
            "firing_rate": rows[-1].get("firing_rate"),
            "gradient_ratio_first_epoch": _number(ratios[0]),
            "gradient_ratio_last_epoch": _number(ratios[-1]),
            "seconds_per_epoch": seconds[len(seconds) // 2],
            **summary(history.seconds),
            "stripped_equals_trained": sample is not None,
        }
        if trainer.is_global_zero:
            plots.curves(rows, folder / "curves.png", task.metric, task.fraction)
            plots.by_layer(history.gradients, folder / "gradients.png", "gradients of the weights", "RMS")
            energy = run_energy(task, self.data)
            if energy is not None:
                folder.write_rows("energy", energy_rows(energy))
            result["energy_pj"] = None if energy is None else energy.energy
            result["relu_energy_pj"] = None if energy is None else energy.relu_energy
            if kept := self.data.storage():
                self.tell(kept)
            folder.finish(result)
            self.tell(summary_text(result, folder))
        return result

    def _load(self, weights: str) -> None:
        path = self.folder.network(weights)
        load_into(self.task.model.network, read_network(path)[0], path)

    def _sample(self, batches: Loaders) -> Any:
        loader = batches.test if batches.test is not None else batches.train
        batch = self.task.transfer_batch_to_device(next(iter(loader)), self.task.device, 0)
        return self.task.prepare(batch)[0]


def calibrate_task(task: Task, data: Data, device: torch.device | str = "cpu") -> dict[str, float]:
    """Calibrate surrogates on the main output's loss over the first training batch; return their widths by layer.

    Args:
        task: what will train; it is moved to the device.
        data: what it will train on.
        device: where to calculate.
    """
    task.to(device)
    batch = next(iter(data.loaders(task.training_options.seed).train))
    inputs, target = task.prepare(task.transfer_batch_to_device(batch, torch.device(device), 0))
    with task.as_trained():
        return calibrated_widths(
            task.model.network,
            [(inputs, target)],
            lambda output, target: task.loss_of(output, target, 0.0),
            model=task.model,
        )


def _figures(trainer: pl.Trainer, task: Task, loader: Any) -> dict[str, float]:
    """Loss and metrics on test data, by name; none where there are none."""
    if loader is None:
        return {}
    found = trainer.test(task, loader, verbose=False)[0]
    return {name.removeprefix("test_"): float(value) for name, value in found.items()}


def _of_row(row: Mapping[str, Any]) -> dict[str, float]:
    prefix = "validation_"
    return {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def summary_text(result: Mapping[str, Any], folder: RunFolder) -> str:
    """Return what came of a run, for a person."""
    metric, fraction = result["metric"], result["fraction"]
    lines = []
    if result["test_last"]:
        best = figure(result["test_best"][metric], fraction)
        lines += [
            (f"test {metric}, last epoch", figure(result["test_last"][metric], fraction)),
            (f"test {metric}, epoch {result['best_epoch']}", f"{best} (chosen on {result['best_chosen_on']})"),
        ]
    if result["chance"] is not None:
        lines.append(("by chance", figure(result["chance"], fraction)))
    if result["firing_rate"] is not None:
        lines.append(("mean firing rate", f"{result['firing_rate']:.3f} spikes per neuron and time step"))
    if result["gradient_ratio_first_epoch"] is not None and result["gradient_ratio_last_epoch"] is not None:
        ratios = f"{result['gradient_ratio_first_epoch']:.3g} after the first epoch, "
        lines.append(
            ("gradient, first layer / last", f"{ratios}{result['gradient_ratio_last_epoch']:.3g} after the last")
        )
    if result.get("energy_pj") is not None:
        energy = f"{result['energy_pj'] / 1000:.4g} nJ; with ReLUs {result['relu_energy_pj'] / 1000:.4g} nJ (45 nm)"
        lines.append(("energy of an input", energy))
    seconds, peak = result["seconds_per_step"], result["peak_bytes_per_step"]
    step = "" if seconds is None else f"; {seconds:.3g} s a step"
    step += "" if peak is None else f", with {peak / 2**20:.0f} MiB at its peak"
    lines += [
        ("time", f"{result['seconds_per_epoch']:.1f} s an epoch{step}"),
        ("pictures", f"curves.png and gradients.png in {folder}"),
        ("network that ships", f"{folder.network('last')}: no branches, the same outputs bit for bit"),
    ]
    width = max(len(name) for name, _ in lines)
    text = "\n" + "\n".join(f"  {name:{width}}  {value}" for name, value in lines)
    return text + _at_chance(result)


def _at_chance(result: Mapping[str, Any]) -> str:
    """Say so where nothing was learned."""
    chance, value = result["chance"], result["test_last"].get(result["metric"])
    if chance is None or value is None:
        return ""
    # By so little a network that has learned nothing may be off it.
    learned = value > min(1.5 * chance, chance + 0.1) if result["higher_is_better"] else value < 0.9 * chance
    if learned:
        return ""
    return (
        "\n\nThe network is at chance: it has learned nothing. Try another optimizer.lr, training.warmup=0.1 or more "
        "epochs; `shortcut-snn gradients` with the same recipe says whether its gradient vanishes or explodes."
    )
