"""A method: everything that decides how the gradient of the loss reaches the weights; and the presets, by name."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Interval
from torch import nn

from .. import components
from ..components import Kind
from ..components.registry import suggestion
from ..neurons import Neuron
from .branch_weight import BranchWeight, Constant, LinearDecay
from .layout import Layout
from .objectives import (
    TET,
    LossSum,
    Objective,
    SelfDistillation,
    StepLossSum,
    part_name,
    takes_branches,
    takes_every_step,
)

# Gradient mechanisms map a network and its layout to the layout with which it trains.


@components.gradient("bptt")
def bptt(network: nn.Module, layout: Layout) -> Layout:
    """Back-propagation through time: the network's own gradient."""
    return layout


@components.gradient("sltt")
def sltt(network: nn.Module, layout: Layout) -> Layout:
    """Spatial learning through time: no gradient passes from a time step to the previous one.

    Source: Meng et al., Towards memory- and time-efficient back-propagation for training SNNs, ICCV 2023.
    """
    neurons = [module for module in network.modules() if isinstance(module, Neuron)]
    if not neurons:
        raise ValueError(
            f"gradient sltt needs neurons of shortcut_snn, and {type(network).__name__} has none; use bptt"
        )
    for neuron in neurons:
        neuron.detach_membrane = True
    return layout


def component_field(kind: Kind, name: str, **options: Any) -> Any:
    """Return the field of a dataclass whose default is a component."""
    return field(default_factory=lambda: kind.make(name, **options))


@dataclass(frozen=True)
class Branches:
    """Auxiliary heads that carry the gradient of the loss to shallow layers during training.

    Args:
        taps: places of branches: ``stages`` (the end of each stage but the last), ``blocks`` (of each residual block
            but the last), a number of places spread evenly, or a list of submodules. A custom network without stages or
            blocks gets 3 places spread evenly.
        branch_weight: lambda, the weight of the branches in the loss, over training.
        by: lambda changes at every ``step`` or at every ``epoch``. In your own loop, pass epochs in place of steps to
            the wrapper's ``loss``.
        head: the module that makes predictions from a tapped output; null for the paper's, average pooling and a
            linear layer (for dense predictions one per pixel).
        keep: keep the heads in the file of the trained network, as exits of anytime inference (see
            :func:`shortcut_snn.calibrate`).

    Example:
        >>> Branches(taps="blocks").branch_weight(0, 100)
        0.25
    """

    taps: Literal["stages", "blocks"] | Annotated[int, Ge(1)] | tuple[str, ...] = "stages"
    branch_weight: Annotated[Any, components.branch_weight] = component_field(components.branch_weight, "linear")
    by: Literal["step", "epoch"] = "step"
    head: Annotated[Any, components.head] | None = None
    keep: bool = False


@dataclass(frozen=True)
class Method:
    """How the gradient reaches the weights. A recipe's group ``method`` and every preset are instances of it.

    Args:
        branches: the auxiliary heads; null for none.
        objective: the loss of the outputs of the network and its branches.
        gradient: how gradients pass through time.
        initialise: before training, set norms and surrogates by measurement, so that every block passes on its input
            and its gradient (see :func:`shortcut_snn.initialise`).
        penalty: a term of the loss for spikes, which saves energy; null for none.
        weight_bits: bits of the weights, which a task rounds as an integer file does, in training and in the trained
            network; null for weights that are not rounded.

    Raises:
        ValueError: parts that contradict each other.

    Example:
        >>> method = Method(Branches("blocks"), initialise=True)
        >>> str(method), method.needs_every_step, method.branch_weight(0, 100)
        ('branches at blocks, logit_sum, lambda linear from 0.25, initialised', False, 0.25)
    """

    branches: Branches | None = None
    objective: Annotated[Any, components.objective] = component_field(components.objective, "logit_sum")
    gradient: Annotated[Any, components.gradient] = component_field(components.gradient, "bptt")
    initialise: bool = False
    penalty: Annotated[Any, components.penalty] | None = None
    weight_bits: Annotated[int, Interval(ge=2, le=8)] | None = None

    def __post_init__(self) -> None:
        if self.branches is not None and not takes_branches(self.objective):
            raise ValueError(
                f"method.branches: the objective {part_name(self.objective)} does not use branches; set "
                "method.branches=null or choose another method.objective"
            )

    @property
    def needs_every_step(self) -> bool:
        """True if the objective takes the predictions of every time step, ``[T, N, ...]``."""
        return takes_every_step(self.objective)

    @property
    def branch_weight(self) -> BranchWeight:
        """Lambda as a function of (step, total steps); 0 without branches."""
        return Constant(0.0) if self.branches is None else self.branches.branch_weight

    def __str__(self) -> str:
        branches = self.branches
        if branches is None:
            parts = ["no branches"] + [part_name(self.objective)] * (not takes_branches(self.objective))
        else:
            count = len(branches.taps) if isinstance(branches.taps, tuple) else branches.taps
            taps = branches.taps if isinstance(branches.taps, str) else f"{count} taps"
            weight = f"lambda {part_name(branches.branch_weight)} from {branches.branch_weight(0, 1):g}"
            parts = [f"branches at {taps}", part_name(self.objective), weight]
        gradient = part_name(self.gradient)
        parts += [gradient] * (gradient != "bptt") + ["initialised"] * self.initialise
        parts += [] if self.penalty is None else [f"penalty {part_name(self.penalty)}"]
        parts += [] if self.weight_bits is None else [f"weights of {self.weight_bits} bits"]
        return ", ".join(parts)


def combine(
    own: Method | None,
    method: Method | None = None,
    objective: Objective | None = None,
    branch_weight: BranchWeight | None = None,
    *,
    has_branches: bool = True,
) -> Method:
    """Return the method of a wrapper that already has one (``own``), or is given one, or parts of one."""
    if isinstance(objective, type) or not (objective is None or callable(objective)):
        raise TypeError(f"objective must be an object such as LossSum(), got {objective!r}")
    if not (branch_weight is None or callable(branch_weight)):
        raise TypeError(
            f"branch_weight must be a function of (step, steps), as LinearDecay(0.25), got {branch_weight!r}"
        )
    if own is not None and method not in (None, own):
        raise ValueError(f"the model trains with {own}, but method={method} is given: leave one of them out")
    base = method if own is None else own
    if base is None:
        # The default objective takes branches, and another one may not.
        branches = Branches() if has_branches and (objective is None or takes_branches(objective)) else None
        if branches is not None and branch_weight is not None:
            branches = replace(branches, branch_weight=branch_weight)
        return Method(branches) if objective is None else Method(branches, objective)
    for name, part in (("objective", objective), ("branch_weight", branch_weight)):
        if part is not None and part != getattr(base, name):
            raise ValueError(
                f"the model's method has {name} {getattr(base, name)}, but {name}={part} is given: leave it out, or "
                "wrap the network without a method"
            )
    return base


_EVERY_BLOCK = Branches("blocks", LinearDecay(0.25))
_STAGES_THROUGHOUT = Branches("stages", Constant(1.0))

METHODS: dict[str, Method] = {
    # The paper's methods.
    "vanilla": Method(),
    "shortcut": Method(_STAGES_THROUGHOUT),  # one cross-entropy of the sum main + lambda * branches
    "evolutionary": Method(Branches("stages", LinearDecay(0.25))),  # lambda decays to 0
    # For deep networks.
    "loss_sum": Method(_EVERY_BLOCK, LossSum()),  # a branch with a loss of its own at every block
    "initialised": Method(initialise=True),  # norms and surrogates set by measurement
    "initialised_loss_sum": Method(_EVERY_BLOCK, LossSum(), initialise=True),
    # Related methods with branches.
    "deep_supervision": Method(_STAGES_THROUGHOUT, LossSum()),  # Lee et al., 2015
    "distillation": Method(_STAGES_THROUGHOUT, SelfDistillation()),  # branches also learn from the main output
    # Losses at stages and time steps, and initialised, after DeepTAGE (2025).
    "stages_and_steps": Method(_STAGES_THROUGHOUT, StepLossSum(), initialise=True),
    # Related methods without branches.
    "tet": Method(objective=TET()),  # a loss at every time step
    "sltt": Method(gradient=components.gradient.make("sltt")),  # no gradient through time
}
"""Methods by the name of their preset."""

NETWORKS: dict[str, dict[str, Any]] = {
    "tdbn": {"norm": "tdbn"},  # batch norm scaled to the threshold
    "sew": {"block": "sew"},  # residual blocks: spike(f(x)) + x
    "ms": {"block": "ms"},  # residual blocks: f(spike(x)) + x
}
"""Presets without a method of their own, whose networks have these entries in a recipe."""


def method_named(method: str | Method | None) -> Method | None:
    """Return the method of a preset; a method or None as it is.

    Raises:
        ValueError: no preset has this name.

    Example:
        >>> str(method_named("evolutionary"))
        'branches at stages, logit_sum, lambda linear from 0.25'
    """
    if method is None or isinstance(method, Method):
        return method
    if method in NETWORKS:
        raise ValueError(
            f"the preset {method!r} changes the network's layers, which a method cannot: build the network with these "
            f"layers, or use one of {', '.join(METHODS)}"
        )
    if method not in METHODS:
        raise ValueError(f"no method {method!r}{suggestion(method, METHODS)}; there are: {', '.join(METHODS)}")
    return METHODS[method]
