"""The recipe of a run: a dataclass with every entry that decides the outcome of the run."""

from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from torch import nn

from .. import components

# Importing these packages registers the built-in components.
from .. import data as _data  # noqa: F401
from .. import deploy as _deploy  # noqa: F401
from .. import nets as _nets  # noqa: F401
from .. import neurons as _neurons  # noqa: F401
from ..components import component_of
from ..components.entries import write
from ..method import Method
from ..method.method import component_field
from ..training import Classification as _Classification  # noqa: F401
from ..training import Training
from ..training.optimizers import make_optimizer


@dataclass(frozen=True)
class Recipe:
    """Every entry that decides the outcome of a run.

    Args:
        data: the data set.
        network: the network.
        neuron: the neurons of the network, if it takes any.
        task: loss and metrics.
        method: how the gradient reaches shallow layers.
        optimizer: an optimizer of torch.optim, with its own options, or muon.
        lr_schedule: the learning rate over training, after the warm-up.
        training: duration, hardware, seed.
        loggers: trackers that receive the metrics, in addition to the run's folder.

    Raises:
        ValueError: parts that contradict each other.

    Example:
        >>> from shortcut_snn.recipes import Recipe, recipe_of
        >>> recipe = recipe_of({"network": {"kind": "resnet8", "width": 8}}, "evolutionary")
        >>> recipe.method.branches.branch_weight
        LinearDecay(initial=0.25)
    """

    data: Annotated[Any, components.data] = component_field(components.data, "digits")
    network: Annotated[Any, components.network] = component_field(components.network, "resnet18")
    neuron: Annotated[Any, components.neuron] = component_field(components.neuron, "lif")
    task: Annotated[Any, components.task] = component_field(components.task, "classification")
    method: Method = field(default_factory=Method)
    optimizer: Annotated[Any, components.optimizer] = component_field(
        components.optimizer, "adamw", lr=0.01, weight_decay=0.02
    )
    lr_schedule: Annotated[Any, components.lr_schedule] = component_field(components.lr_schedule, "cosine")
    training: Training = field(default_factory=Training)
    loggers: Annotated[tuple[Any, ...], components.logger] = ()

    def __post_init__(self) -> None:
        if self.training.warmup and hasattr(self.lr_schedule, "pct_start"):
            raise ValueError(
                f"training.warmup: {component_of(self.lr_schedule).name} has its own warm-up, lr_schedule.pct_start; "
                "leave training.warmup out"
            )
        if self.training.progressive_resizing is not None and self.time_steps is not None:
            self.training.progressive_resizing.check(self.time_steps)
        # Torch checks options of an optimizer only when it is built.
        make_optimizer(self.optimizer, [nn.Parameter(torch.zeros(1, 1))])

    def to_dict(self) -> dict[str, Any]:
        """Return all entries, defaults included, as nested dictionaries, lists and plain values."""
        entries: dict[str, Any] = write(self)
        return entries

    @property
    def time_steps(self) -> int | None:
        """T, or None if the network has no such option."""
        return getattr(self.network, "time_steps", None)

    @property
    def unused_neuron(self) -> str:
        """A warning if the recipe configures neurons and the network has its own, else an empty string."""
        if self.network.accepts("make_neuron") or self.neuron == Recipe().neuron:
            return ""
        return f"network {component_of(self.network).name!r} has its own neurons: the entries of neuron have no effect"

    def __str__(self) -> str:
        network, data = component_of(self.network).name, component_of(self.data).name
        return f"{network} on {data}, {self.method}"
