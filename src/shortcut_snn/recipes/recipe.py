"""The recipe of a run: everything that decides its outcome, complete, each component with its own options."""

from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

import torch
from torch import nn

from .. import components

# Importing them is what makes the built-in components known.
from .. import data as _data  # noqa: F401
from .. import deploy as _deploy  # noqa: F401
from .. import method as _method  # noqa: F401
from .. import nets as _nets  # noqa: F401
from .. import neurons as _neurons  # noqa: F401
from ..components import Kind, slot, write
from ..method import takes_branches
from ..training import Classification as _Classification  # noqa: F401
from ..training import Training, check_gradient, make_optimizer
from ..training import loggers as _loggers  # noqa: F401


def _default(kind: Kind, name: str, **options: Any) -> Any:
    """A field's default: a component, made anew for each."""
    return field(default_factory=lambda: kind.make(name, **options))


@dataclass(frozen=True)
class Branches:
    """Auxiliary heads that carry the loss gradient to shallow layers while training.

    Args:
        taps: where they are: at the end of each of the network's stages but the last, of each residual block but the
            last, or at the submodules named in a list.
        schedule: how lambda, their weight, goes over training.
        by: whether lambda changes at every step or at every epoch.
        head: what makes predictions of a tapped output; null for the paper's, averaging and a linear layer (of dense
            predictions one for each pixel).

    Example:
        >>> Branches(taps="blocks").schedule(0, 100)
        0.25
    """

    taps: Literal["stages", "blocks"] | tuple[str, ...] = "stages"
    schedule: Annotated[Any, components.branch_weight] = _default(components.branch_weight, "linear")
    by: Literal["step", "epoch"] = "step"
    head: Annotated[Any, components.head] | None = None


@dataclass(frozen=True)
class Method:
    """How the gradient reaches the weights.

    Args:
        branches: the auxiliary heads; null for none.
        objective: how the outputs of network and branches make one loss.
        gradient: how gradients pass through time.
        calibrate: whether each layer gets a surrogate width of its own before training, at which the gradient keeps its
            size from the last layer to the first; the last layer keeps its own.

    Example:
        >>> Method(Branches("blocks"), calibrate=True).branches.taps
        'blocks'
    """

    branches: Branches | None = None
    objective: Annotated[Any, components.objective] = _default(components.objective, "logit_sum")
    gradient: Annotated[Any, components.gradient] = _default(components.gradient, "bptt")
    calibrate: bool = False


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the outcome of a run.

    Args:
        data: what it learns from.
        network: what learns.
        neuron: its neurons, where the network takes any.
        task: what it learns: loss, metrics.
        method: how the gradient reaches its shallow layers.
        optimizer: how weights move; any of torch.optim, with its own options.
        lr_schedule: how the learning rate goes over training, after the warm-up.
        training: how long, where, from which seed.
        loggers: where figures go besides the run's folder.

    Example:
        >>> from shortcut_snn.recipes import Recipe, recipe_of
        >>> recipe = recipe_of({"network": {"kind": "resnet8", "width": 8}}, "evolutionary")
        >>> recipe.method.branches.schedule
        LinearDecay(initial=0.25)
    """

    data: Annotated[Any, components.data] = _default(components.data, "digits")
    network: Annotated[Any, components.network] = _default(components.network, "resnet18")
    neuron: Annotated[Any, components.neuron] = _default(components.neuron, "lif")
    task: Annotated[Any, components.task] = _default(components.task, "classification")
    method: Method = field(default_factory=Method)
    optimizer: Annotated[Any, components.optimizer] = _default(
        components.optimizer, "adamw", lr=0.01, weight_decay=0.02
    )
    lr_schedule: Annotated[Any, components.lr_schedule] = _default(components.lr_schedule, "cosine")
    training: Training = field(default_factory=Training)
    loggers: Annotated[tuple[Any, ...], components.logger] = ()

    def __post_init__(self) -> None:
        method = self.method
        if method.branches is not None and not takes_branches(method.objective):
            raise ValueError(
                f"method.branches: the objective {components.component_of(method.objective).name} has no use for "
                "branches; leave them out (method.branches=null) or choose another method.objective"
            )
        check_gradient(method.gradient, method.objective, method.calibrate)
        if self.training.warmup and getattr(self.lr_schedule, "warms_up", False):
            raise ValueError(
                f"training.warmup: {components.component_of(self.lr_schedule).name} warms up by itself, over "
                "lr_schedule.pct_start of the run; leave training.warmup out"
            )
        if self.training.early is not None and self.time_steps is not None:
            self.training.early.check(self.time_steps)
        make_optimizer(self.optimizer, [nn.Parameter(torch.zeros(1, 1))])

    def to_dict(self) -> dict[str, Any]:
        """Return plain nested dictionaries, lists and values: all entries, said or not."""
        entries: dict[str, Any] = write(self)
        return entries

    @property
    def time_steps(self) -> int | None:
        """T, where the network says it."""
        return getattr(self.network, "time_steps", None)

    @property
    def unused(self) -> str:
        """A line that says so where neurons are named and the network brings its own; else nothing."""
        if self.network.accepts("make_neuron") or self.neuron == Recipe().neuron:
            return ""
        name = components.component_of(self.network).name
        return f"network {name!r} brings its own neurons: what neuron says has no effect"

    def __str__(self) -> str:
        """Say in a few words what trains on what, and how."""
        names = {field.name: getattr(self, field.name) for field in fields(self)}
        data, network = (components.component_of(names[name]).name for name in ("data", "network"))
        return f"{network} on {data}, {method_text(self.method)}"


def method_text(method: Method) -> str:
    """Return a method in a few words."""
    objective = components.component_of(method.objective).name
    words = []
    if method.branches is None:
        words.append("no branches" + (f", {objective}" if not takes_branches(method.objective) else ""))
    else:
        taps = method.branches.taps
        where = taps if isinstance(taps, str) else f"{len(taps)} taps"
        schedule = method.branches.schedule
        start = schedule(0, 1)
        words.append(
            f"branches at {where}, {objective}, lambda {components.component_of(schedule).name} from {start:g}"
        )
    gradient = components.component_of(method.gradient).name
    return ", ".join(words + [gradient] * (gradient != "bptt") + ["calibrated surrogates"] * method.calibrate)


def sections() -> dict[str, Any]:
    """Return what each section of a recipe takes: a kind of component, or a dataclass."""
    found = {name: slot(option.annotation) for name, option in components.fields_of(Recipe).items()}
    return {name: each.content for name, each in found.items() if each is not None}
