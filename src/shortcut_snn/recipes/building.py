"""Build the objects of a recipe: data, network, model with branches, task. Train them."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .._utils.random_state import preserve_random_state
from ..components import component_of
from ..data import Data, as_data
from ..introspection import introspect
from ..method import Method
from ..nets import SpikingNetwork
from ..nets import build_network as build_from_options
from ..training import Task, fit
from ..training.folder import Row
from ..training.run_state import Run
from ..wrapping import placement, wrap
from .entries import Recipe

Log = Callable[[str], object]


def train(
    recipe: Recipe,
    folder: str | Path,
    *,
    resume: bool = False,
    imports: Sequence[Row] = (),
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train a recipe and leave the run in a folder: :func:`build`, then :func:`shortcut_snn.training.fit`.

    Args:
        recipe: the recipe.
        folder: the run's folder; created.
        resume: continue from the folder's checkpoint.
        imports: records of the files that registered the recipe's components; see :func:`import_components`.
        log: receives progress messages.

    Returns:
        The content of ``result.json``.

    Raises:
        ValueError: invalid entries, data or checkpoint; a loss that is NaN.
        FileExistsError: the folder holds a run and ``resume`` is false.
        Interrupted: a signal stopped the run; it can be resumed.

    Example:
        >>> import tempfile
        >>> from shortcut_snn.recipes import recipe_of
        >>> small = {"data": {"train_limit": 40, "test_limit": 20}, "network": {"width": 2}, "training": {"epochs": 1}}
        >>> folder = tempfile.mkdtemp() + "/run"
        >>> train(recipe_of("digits", small), folder, log=lambda line: None)["metric"]
        'accuracy'
    """
    if torch.get_default_device().type != "cpu":
        # Data and loaders are made on the CPU. The context slows torch down, so only where it is needed.
        with torch.device("cpu"):
            return train(recipe, folder, resume=resume, imports=imports, log=log)
    entries = recipe.to_dict()
    metadata = {"task": entries["task"]["kind"], "network": entries["network"], "neuron": entries["neuron"]}
    run = Run(folder, entries, imports=imports, metadata=metadata, resume=resume, log=log)
    if run.is_finished:
        return run.folder.read_result()
    run.log(f"{recipe}, in {run.folder}")
    if recipe.unused_neuron:
        run.log(recipe.unused_neuron)
    task, data = build(recipe, log=run.log)
    return fit(task, data, run, loggers=recipe.loggers)


def build(recipe: Recipe, data: Data | None = None, *, log: Log = print) -> tuple[Task, Data]:
    """Return the task of a recipe and its data. Weights are drawn from the recipe's seed.

    Args:
        recipe: the recipe.
        data: its data, if already loaded.
        log: receives the layout of a network that is not built in.

    Example:
        >>> from shortcut_snn.recipes import recipe_of
        >>> recipe = recipe_of("digits", {"data": {"train_limit": 40, "test_limit": 20}, "network": {"width": 2}})
        >>> task, data = build(recipe)
        >>> type(task).__name__, len(data.train)
        ('Classification', 30)
    """
    data = load_data(recipe) if data is None else data
    with preserve_random_state(recipe.training.seed):
        return build_task(recipe, data, build_network(recipe, data.description), log=log), data


def load_data(recipe: Recipe) -> Data:
    """Return the data of a recipe. The ``load`` of a component may return anything that :func:`.as_data` takes."""
    name = component_of(recipe.data).name
    try:
        inspect.signature(recipe.data.load).bind(None)
    except TypeError:
        raise ValueError(
            f"load() of the data {name!r} needs a parameter: write def load(self, time_steps=None)"
        ) from None
    loaded = recipe.data.load(recipe.time_steps)
    options = {"batch_size": recipe.data.batch_size} if hasattr(recipe.data, "batch_size") else {}
    try:
        return as_data(loaded, **options)
    except ValueError as error:
        raise ValueError(f"load() of the data {name!r}: {error}") from None


def build_network(recipe: Recipe, description: Mapping[str, Any]) -> nn.Module:
    """Return the network of a recipe, without branches, for data with this description."""
    network = build_from_options(recipe.network, recipe.neuron, description)
    if description.get("kind") == "static":
        nn.utils.convert_conv2d_weight_memory_format(network, torch.channels_last)
    return network


def build_task(
    recipe: Recipe, data: Data, network: nn.Module, description: Mapping[str, Any] | None = None, *, log: Log = print
) -> Task:
    """Return the task of a recipe for a network; ``description`` is of the data that the network was trained on."""
    task: Task = recipe.task.call(
        network,
        method=Method(),
        optimizer=recipe.optimizer,
        lr_schedule=recipe.lr_schedule,
        training=recipe.training,
        description=data.description if description is None else description,
    )
    branches = recipe.method.branches
    taps: Any = [] if branches is None else branches.taps
    example = None
    if isinstance(network, SpikingNetwork) and data.description.get("classes") and not isinstance(taps, int):
        layout = network.layout(taps)
    else:
        # Only the task knows how to turn a sample into the network's input. Time steps are seldom 7, so the batch axis
        # is recognised.
        example, target = task.prepare_batch(data.sample(7))
        labels = target if isinstance(target, Tensor) else None
        options: Any = {"labels": labels, "samples": task.count_samples(target), "readout": task.readout}
        try:
            layout = introspect(network, example, taps=placement(network, taps), **options)
        except ValueError as error:
            if not any(name in str(error) for name in ("readout=", "loop=")):
                raise
            remedy = "a recipe lacks these: let forward() loop over time and return a prediction for each sample"
            raise ValueError(f"{error} ({remedy})") from None
        if branches is not None:
            log(layout.summary())
    task.model = wrap(network, layout, recipe.method, example=example, log=lambda line: None)
    return task
