"""From a recipe to the objects it names, and from a run's folder back to its network."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from ..components import component_of, write
from ..data import Data, as_data
from ..deploy import load_into, read_network
from ..diagnosis.calibration import set_widths
from ..introspection import attach
from ..machine import TooLarge
from ..method import Shortcut
from ..nets import build_network as build_component
from ..nets import channels_last
from ..nets.size import check_size
from ..random_state import seed_everything
from ..training import MAY_CHANGE_ON_RESUME, Provenance, Row, RunFolder, Task, fit, recipe_differences, seeded
from .entries import from_dict, merged
from .imports import hint
from .recipe import Method, Recipe


def train(
    recipe: Recipe,
    folder: str | Path,
    *,
    resume: bool = False,
    imports: Sequence[Row] = (),
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train a recipe and write the run into a folder: :func:`build`, then :func:`shortcut_snn.training.fit`.

    Args:
        recipe: what to train.
        folder: of the run; created.
        resume: resume from the folder's checkpoint.
        imports: the files that registered the recipe's components: rows with ``name`` and ``sha256``.
        log: receives lines of text.

    Returns:
        The content of ``result.json``.

    Raises:
        ValueError: recipe, data or checkpoint cannot be used, or a loss is not finite.
        FileNotFoundError: the data are missing.
        FileExistsError: the folder holds a run already and ``resume`` is False.
        Interrupted: a signal asked the run to stop; resume it to continue.

    Example:
        >>> import tempfile
        >>> from shortcut_snn.recipes import recipe_of
        >>> small = {"data": {"train_limit": 40, "test_limit": 20}, "network": {"width": 2}, "training": {"epochs": 1}}
        >>> folder = tempfile.mkdtemp() + "/run"
        >>> train(recipe_of("digits", small), folder, log=lambda line: None)["metric"]
        'accuracy'
    """
    run_folder = RunFolder(folder)
    provenance = Provenance(recipe.to_dict(), about(recipe), imports)
    log_once = rank_zero_only(log)
    if getattr(rank_zero_only, "rank", 0) == 0:
        # Before the data are read, which may take long: the folder may hold another run.
        run_folder.start(provenance.entries, resume)
    if resume and run_folder.is_finished:
        log_once(f"{run_folder} is finished already")
        run_folder.log_changed_imports(imports, log_once)
        return run_folder.read_result()
    log_once(f"{recipe}, in {folder}")
    if recipe.unused:
        log_once(recipe.unused)
    with seeded(recipe.training.seed, recipe.training.threads):
        task, data = build(recipe, log=log_once)
    return fit(task, data, run_folder, resume=resume, loggers=recipe.loggers, provenance=provenance, log=log)


def about(recipe: Recipe) -> dict[str, Any]:
    """Return what a network's file says besides its data: enough to build it again."""
    return {
        "task": component_of(recipe.task).name,
        "network": write(recipe.network),
        "neuron": write(recipe.neuron),
    }


def build(recipe: Recipe, data: Data | None = None, *, log: Callable[[str], object] = print) -> tuple[Task, Data]:
    """Return what trains and what it learns from; weights are drawn from the recipe's seed.

    Args:
        recipe: what to build.
        data: as the recipe names it, if it has been read already.
        log: receives the summary of branches of a third-party network.

    Raises:
        ValueError: parts that do not go together, data that cannot be used.
        FileNotFoundError: missing data.

    Example:
        >>> from shortcut_snn.recipes import recipe_of
        >>> recipe = recipe_of("digits", {"data": {"train_limit": 40, "test_limit": 20}, "network": {"width": 2}})
        >>> task, data = build(recipe)
        >>> type(task).__name__, len(data.train)
        ('Classification', 30)
    """
    data = load_data(recipe) if data is None else data
    _check_size(recipe, data, trains=True)
    seed_everything(recipe.training.seed)
    return build_task(recipe, data, build_network(recipe, data.description), log=log), data


def load_data(recipe: Recipe) -> Data:
    """Return the data of a recipe; a component's ``load`` may return whatever :func:`.as_data` takes.

    Raises:
        ValueError: data that cannot be used.
        FileNotFoundError: missing data.

    Example:
        >>> from shortcut_snn.recipes import recipe_of
        >>> load_data(recipe_of("digits")).description["image_size"]
        [8, 8]
    """
    load, name = recipe.data.load, component_of(recipe.data).name
    try:
        inspect.signature(load).bind(None)
    except TypeError:
        raise ValueError(
            f"load() of the data {name!r} takes the number of time steps: write def load(self, time_steps=None)"
        ) from None
    loaded = load(recipe.time_steps)
    try:
        return as_data(loaded, **{"batch_size": recipe.data.batch_size} if hasattr(recipe.data, "batch_size") else {})
    except ValueError as error:
        raise ValueError(f"what load() of the data {name!r} returned: {error}") from None


def _check_size(recipe: Recipe, data: Data, trains: bool) -> None:
    """Refuse batches that cannot fit into this machine.

    Raises:
        TooLarge: the message says how much memory they need.
    """
    part: Any = getattr(data, "train" if trains else "test", None)
    batch = getattr(recipe.data, "batch_size", 1)
    check_size(
        recipe.network,
        recipe.neuron,
        data.description,
        batch=min(batch, len(part)) if hasattr(part, "__len__") else batch,
        trains=trains and component_of(recipe.method.gradient).name == "bptt",
        size=4 if recipe.training.precision == "fp32" else 2,
    )


def build_network(recipe: Recipe, description: Mapping[str, Any]) -> nn.Module:
    """Return the network of a recipe for data that is described, as it is deployed.

    Raises:
        TooLarge: it does not fit into this machine.
    """
    check_size(recipe.network, recipe.neuron, description)
    network = build_component(recipe.network, recipe.neuron, description)
    if description.get("kind") == "static":
        channels_last(network)
    return network


def build_task(
    recipe: Recipe,
    data: Data,
    network: nn.Module,
    description: Mapping[str, Any] | None = None,
    *,
    log: Callable[[str], object] = print,
) -> Task:
    """Return the task of a recipe around a network; by default its constants are those of the data."""
    branches, gradient = recipe.method.branches, recipe.method.gradient
    task: Task = recipe.task.build(
        model=Shortcut(network, [], num_classes=1),
        objective=recipe.method.objective,
        branch_weight=None if branches is None else branches.schedule,
        by_epoch=branches is not None and branches.by == "epoch",
        optimizer=recipe.optimizer,
        lr_schedule=recipe.lr_schedule,
        training=recipe.training,
        description=data.description if description is None else description,
    )
    task.calibrate = recipe.method.calibrate
    taps: Any = [] if branches is None else branches.taps if isinstance(branches.taps, str) else list(branches.taps)
    options: dict[str, Any] = {} if branches is None else {"head": branches.head}
    classes = data.description.get("classes")
    if hasattr(network, "example_input") and classes:
        task.model = gradient(network, taps, num_classes=len(classes), **options)
    else:
        # Seldom as many as time steps, so that their number tells them apart.
        example, target = task.prepare_batch(data.sample(7))
        try:
            task.model = attach(
                network,
                taps,
                example=example,
                labels=target if isinstance(target, Tensor) else None,
                samples=task.count_samples(target),
                readout=task.readout,
                wrap=gradient,
                # Where there are no branches nothing was chosen that a person would want to know.
                log=log if taps else lambda line: None,
                **options,
            )
        except ValueError as error:
            if "readout=" not in str(error):
                raise
            raise ValueError(
                f"{error}. In a recipe that is the attribute readout of a task; what it gives is one tensor: let a "
                "network of several outputs return them joined, and the task's criterion() and metrics() part them"
            ) from None
    return task


def load_run(
    folder: str | Path, weights: str = "last", changes: Mapping[str, Any] | None = None
) -> tuple[nn.Module, Recipe, dict[str, Any]]:
    """Rebuild a run's network.

    Args:
        folder: of the run.
        weights: ``"last"`` or ``"best"``.
        changes: entries to lay over the run's recipe, as where the data lies now.

    Returns:
        The network in eval mode, the run's recipe, and what the file says of its data.

    Raises:
        FileNotFoundError: no run there, or it has not come so far yet.
        ValueError: damaged files, or components that were imported then and are not known now.

    Example:
        >>> import tempfile
        >>> from shortcut_snn.recipes import recipe_of
        >>> small = {"data": {"train_limit": 40, "test_limit": 20}, "network": {"width": 2}, "training": {"epochs": 1}}
        >>> folder = tempfile.mkdtemp() + "/run"
        >>> _ = train(recipe_of("digits", small), folder, log=lambda line: None)
        >>> network, recipe, data = load_run(folder)
        >>> network.time_steps, data["channels"]
        (4, 1)
    """
    recipe = run_recipe(RunFolder(folder), changes)
    network, description = load_network(recipe, RunFolder(folder), weights)
    return network.eval(), recipe, description


def load_network(
    recipe: Recipe, folder: RunFolder, weights: str = "last", widths: bool = True
) -> tuple[nn.Module, dict[str, Any]]:
    """Return a recipe's network with the weights of a run, and what the file says of its data.

    Args:
        recipe: the run's, or that of a network with the same weights.
        folder: of the run.
        weights: ``"last"`` or ``"best"``.
        widths: whether its surrogates have the widths that the run calibrated.

    Raises:
        FileNotFoundError: the run has not come so far yet.
        ValueError: damaged files, or another network than the recipe's.
    """
    path = folder.network(weights)
    if not path.is_file():
        raise FileNotFoundError(f"no {path.name} in {folder}: the run is not finished; go on with train --resume")
    state, said = read_network(path)
    description = said.get("data")
    if not isinstance(description, Mapping):
        raise ValueError(f"{path} does not say what data it was trained on")
    try:
        network = build_network(recipe, description)
    except TooLarge:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} does not say what data it was trained on: {error}") from None
    load_into(network, state, path)
    if widths and (found := said.get("surrogate_widths")):
        try:
            set_widths(network, found)
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is damaged: {error}") from None
    return network, dict(description)


def run_recipe(folder: RunFolder, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe of a run.

    Raises:
        FileNotFoundError: no run there.
        ValueError: its file is damaged, or names what was imported then and is not known now; changes that make no
            sense.
    """
    entries = folder.read_entries()
    if not isinstance(entries.get("network"), Mapping):
        raise ValueError(
            f"the run in {folder} was started with objects, from Python: go on with it there{folder.made_by()}"
        )
    try:
        return from_dict(merged(entries, changes or {}))
    except ValueError as error:
        if changes:
            # Where the file alone is right, the changes are wrong.
            run_recipe(folder)
            raise
        raise ValueError(
            f"{folder.recipe} is not a recipe: {error}{hint(folder.imports())}{folder.made_by()}"
        ) from None


def is_network_of(folder: RunFolder, recipe: Recipe, data: bool = False) -> bool:
    """Say whether a recipe's network is the one that a run in a folder has trained, as its own recipe says.

    Args:
        folder: of the run.
        recipe: the run's, perhaps with changes.
        data: whether its data must be the run's too, wherever they lie now.
    """
    own = run_recipe(folder)
    parts = ("network", "neuron", *["data"] * data)
    other = recipe_differences(*({part: each.to_dict()[part] for part in parts} for each in (own, recipe)))
    return other.keys() <= {"data.root", "data.cache", *MAY_CHANGE_ON_RESUME}


def open_run(
    folder: str | Path, weights: str = "last", changes: Mapping[str, Any] | None = None
) -> tuple[Task, Data, Recipe]:
    """Return a run's network in its task, without branches, with the data it was trained on.

    Raises:
        FileNotFoundError: no finished run there, or its data are gone.
        ValueError: damaged files, or data that is no longer that of the run.

    Example:
        >>> import tempfile
        >>> from shortcut_snn.recipes import recipe_of
        >>> small = {"data": {"train_limit": 40, "test_limit": 20}, "network": {"width": 2}, "training": {"epochs": 1}}
        >>> folder = tempfile.mkdtemp() + "/run"
        >>> _ = train(recipe_of("digits", small), folder, log=lambda line: None)
        >>> task, data, recipe = open_run(folder)
        >>> len(data.test)
        20
    """
    network, recipe, then = load_run(folder, weights, changes)
    data = load_data(recipe)
    check_data(RunFolder(folder), then, data)
    _check_size(recipe, data, trains=False)
    plain = dataclasses.replace(recipe, method=Method(objective=recipe.method.objective))
    # The constants of training, not those of data that may have changed since.
    return build_task(plain, data, network, then), data, recipe


def check_data(folder: RunFolder, then: Mapping[str, Any], data: Data) -> None:
    """Refuse data that is no longer that of a run.

    Raises:
        ValueError: the message says what differs.
    """
    now = data.description
    if list(now.get("classes", [])) != list(then.get("classes", [])):
        some = [", ".join(map(str, list(each.get("classes", []))[:5])) for each in (now, then)]
        raise ValueError(f"the data's classes are no longer those of the run: {some[0]} now, {some[1]} then")
    # Runs of earlier versions say nothing of images in files.
    if then.get("split_sha256") not in (None, now.get("split_sha256")):
        raise ValueError(
            f"the samples or their split are no longer those of the run, which are listed in {folder.split}: what it "
            "was trained on might be in its test; put them back as they were"
        )
