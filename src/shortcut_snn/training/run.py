"""A run: a task trained on data, and a folder with its files. :func:`fit` is the sequence of its phases."""

import math
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch.nn.functional import conv2d

from ..data import Data, as_data
from ..data.loading import Loaders
from ..data.reading import DataFileError
from ..deploy.safetensors_files import load_into
from ..initialisation import Initialisation, initialise, set_surrogates
from .folder import RunFolder
from .health import Health
from .loggers import make_loggers
from .provenance import environment, task_entries
from .result import finish, metric_of
from .run_state import History, Run, SaveRun, WeightAverage
from .steps import FiniteSteps, StepCost
from .task import Task
from .trainer import TIMEOUT, RunProgressBar, has_terminal, make_trainer


def fit(
    task: Task,
    data: Any,
    folder: str | Path | Run,
    *,
    resume: bool = False,
    loggers: Sequence[Any] = (),
    callbacks: Sequence[Callback] = (),
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train a task on data and write the run into a folder; see :class:`RunFolder` for its files.

    Signal handlers, random states, threads and Lightning's log level are restored at the end.

    Args:
        task: model, objective, optimizer and options of training. A task without a description gets the data's.
        data: a data set of :mod:`shortcut_snn.data`, a pair (train, test) or triple (train, validation, test) of
            torch ``Dataset`` or ``DataLoader``; see :func:`shortcut_snn.as_data`.
        folder: folder of the run, which is created; or a ``Run`` that was opened with ``resume`` and ``log``.
        resume: resume from the folder's checkpoint, or start if there is none. A finished run is not repeated.
        loggers: components, such as ``components.logger.make("csv")``.
        callbacks: Lightning callbacks besides those of a run.
        log: receives lines of text.

    Returns:
        The content of ``result.json``.

    Raises:
        ValueError: data or checkpoint cannot be used, or a loss is not finite.
        FileExistsError: the folder holds a run already and ``resume`` is False.
        Interrupted: a signal asked the run to stop; resume it to continue.

    Example:
        >>> import tempfile, torch
        >>> from shortcut_snn import nets
        >>> from shortcut_snn.training import Classification, Training, fit
        >>> images = torch.utils.data.TensorDataset(torch.rand(8, 1, 8, 8), torch.arange(8) % 2)
        >>> network = nets.spiking_resnet8(2, 2, width=2, in_channels=1)
        >>> task = Classification(network, training=Training(epochs=1))
        >>> result = fit(task, (images, images), tempfile.mkdtemp() + "/run", log=lambda line: None)
        >>> sorted(result["test_last"])
        ['accuracy', 'loss']
    """
    if not isinstance(task, Task):
        raise TypeError(f"fit takes a task, such as Classification(network), got a {type(task).__name__}")
    data = as_data(data)
    run = folder if isinstance(folder, Run) else Run(folder, task_entries(task), resume=resume, log=log)
    if run.is_finished:
        return run.folder.read_result()
    run.begin(task, data)
    with run.process_state(task.training_options):
        trainer = build_trainer(task, run, loggers, callbacks)
        batches = prepare(task, data, run, trainer)
        try:
            train(task, run, trainer, batches)
            return finish(task, data, batches, run, trainer)
        except DataFileError:
            # The user will replace the damaged file and resume, with contents that differ from the run's.
            run.folder.forget_fingerprint()
            raise


def build_trainer(task: Task, run: Run, loggers: Sequence[Any], callbacks: Sequence[Callback]) -> pl.Trainer:
    """Return Lightning's trainer with the callbacks of a run; the caller's come before those that save."""
    training = task.training_options
    health = Health(network=lambda module: module.model.network, log=run.log)
    step_cost = StepCost()
    history = History(health, step_cost)
    average = None if training.ema_decay is None else WeightAverage(decay=training.ema_decay)
    save = SaveRun(run, history, training.checkpoint_every, average)
    measuring = [FiniteSteps(), *([average] if average else []), health, step_cost]
    bar = [RunProgressBar()] if has_terminal() else []
    ordered = [*measuring, *bar, *callbacks, history, save]
    return make_trainer(training, make_loggers(loggers, run.folder.path), ordered, checkpoints=True)


def prepare(task: Task, data: Data, run: Run, trainer: pl.Trainer) -> Loaders:
    """Make the loaders, initialise the network if the task says so, and write what is known before the first step."""
    batches = data.loaders(task.training_options.seed, trainer.global_rank, trainer.world_size)
    batches.begin(run.epoch, run.batches_done)
    if run.batches_done and run.loader_state:
        # Lightning would restore it only before it makes the loaders, and it has made them to count the steps.
        batches.train.load_state_dict(run.loader_state[0])  # type: ignore[attr-defined]
    run.log(_describe_start(task, batches))
    is_bf16_on_cpu = task.training_options.precision == "bf16" and trainer.strategy.root_device.type == "cpu"
    if is_bf16_on_cpu and (slow := why_bf16_is_slow()):
        run.log(f"{slow}: training.precision=fp32 is faster")
    if task.training_options.nodes > 1:
        run.log(f"waiting for the other machines, at most {TIMEOUT.total_seconds() / 60:.0f} minutes")
    start, surrogates = task.training_options.start_from, {}
    if run.checkpoint is not None:
        surrogates = run.folder.read_surrogates()
        set_surrogates(task.model.network, surrogates)
        task.is_restored = True
    elif start is not None:
        surrogates = load_start(task, start)
    elif task.method.initialise and task.model.initialisation is None:
        # Several processes must find the same numbers to the last digit, which different GPUs may not.
        device = trainer.strategy.root_device if trainer.world_size == 1 else torch.device("cpu")
        run.log(str(initialise_task(task, data, device)))
    if trainer.is_global_zero:
        origin = environment(run.imports) | metric_of(task) | {"data": data.fingerprint()}
        report = task.model.initialisation
        if report is not None and run.checkpoint is None:
            surrogates = report.surrogates
        run.folder.begin(run.entries, data.split, surrogates, origin)
    for logger in trainer.loggers:
        # A resumed run may name a tracker's run, and a tracker refuses entries that change.
        logger.log_hyperparams({name: entry for name, entry in run.entries.items() if name != "loggers"})
    return batches


def train(task: Task, run: Run, trainer: pl.Trainer, batches: Loaders) -> None:
    """Run Lightning's training loop from the run's position to its last epoch."""
    try:
        trainer.fit(task, batches.train, batches.validation, ckpt_path=run.checkpoint, weights_only=True)
    except Exception as error:
        explanation = _explain(error, trainer)
        if explanation is None:
            raise
        raise ValueError(explanation) from error
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, WeightAverage):
            # Lightning deploys the average at the end of training, but not if all epochs were done before.
            task.model.load_state_dict(callback.model(task).state_dict())


def _explain(error: Exception, trainer: pl.Trainer) -> str | None:
    """Return a message for errors of training whose cause is known."""
    text = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, RuntimeError) and "DataLoader" in text:
        return (
            f"a data loader process (data.workers) died or sent no batch: is there enough memory, also in /dev/shm? "
            f"Resume the run with fewer data.workers ({text})"
        )
    if re.search(r"Input type \(|mat1 and mat2 must have the same dtype", text):
        return f"samples and weights differ in type: return float samples, or describe mean and std of bytes ({text})"
    if "Expected more than 1 value per channel" in text:
        return f"a batch norm cannot train on a single value: use a larger data.batch_size, or drop_last ({text})"
    if "capturable=True" in text:
        return f"optimizer.capturable needs a GPU: leave it out ({text})"
    if "the network takes" in text and "channels, got" in text:
        return f"{text}: build the network with in_channels of the samples, or describe channels, image_size and kind"
    network = ("gloo", "nccl", "connection", "store", "socket", "timed out", "timeout")
    if trainer.world_size > 1 and isinstance(error, RuntimeError) and any(word in text.lower() for word in network):
        return (
            f"another of the {trainer.world_size} processes has ended or cannot be reached; see its last message, then "
            f"resume the run in all of them ({text})"
        )
    return None


def why_bf16_is_slow() -> str | None:
    """Return how much longer a convolution takes in bfloat16 than in float32 on this CPU; None if it does not."""
    # Instructions do not tell: ``AVX512_BF16`` is faster than float32 on one processor and slower on another.
    least = {torch.float32: math.inf, torch.bfloat16: math.inf}
    for _ in range(8):
        for dtype in least:
            x = torch.ones(16, 64, 16, 16, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
            weight = torch.ones(64, 64, 3, 3, dtype=dtype, requires_grad=True)
            start = time.perf_counter()
            conv2d(x, weight, padding=1).sum().backward()  # type: ignore[no-untyped-call]
            least[dtype] = min(least[dtype], time.perf_counter() - start)
    cost = least[torch.bfloat16] / least[torch.float32]
    return f"convolutions take {cost:.1f} times as long in bf16 as in fp32" if cost > 1.2 else None


def _describe_start(task: Task, batches: Loaders) -> str:
    """Return a line about the size of network and data, and a warning if a batch is larger than the data."""
    # A loader with a batch sampler has no batch size.
    samples, size = batches.samples, getattr(batches.train, "batch_size", None)
    parts = ", ".join(f"{count:,} {part}" for part, count in samples.items()) or "unknown"
    parameters = sum(parameter.numel() for parameter in task.model.network.parameters())
    line = f"{parameters:,} parameters; samples: {parts}; {len(batches.train):,} steps an epoch"
    if size and samples.get("train", size) < size:
        line += f"\nthe batch size {size:,} exceeds the training set, so an epoch is one step; try a smaller one"
    return line


def load_start(task: Task, start: str) -> dict[str, dict[str, float]]:
    """Load the weights and the surrogates of a finished run into a task's network, and return the surrogates."""
    source = RunFolder(start)
    try:
        state, _ = source.read_network("last")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"training.start_from: {error}") from None
    load_into(task.model.network, state, source.network("last"))
    surrogates = source.read_surrogates()
    if task.method.initialise and not surrogates:
        raise ValueError(
            f"training.start_from: the network of {source} began without a measured initialisation: leave "
            "method.initialise out, or choose a run that has one"
        )
    set_surrogates(task.model.network, surrogates)
    task.is_restored = True
    return surrogates


def initialise_task(task: Task, data: Data, device: torch.device | str = "cpu") -> Initialisation:
    """Initialise a task's network on the first training batch, by the main output's loss."""
    task.to(device)
    inputs, target = task.prepare_batch(next(iter(data.loaders(task.training_options.seed).train)))
    return initialise(task.model, inputs, target, partial(task.model.main_loss, criterion=task.criterion))
