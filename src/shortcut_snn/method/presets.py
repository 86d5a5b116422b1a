"""The presets: methods by name, and networks whose layers differ."""

from typing import Any

from .. import components
from ..components.registry import suggestion
from .branch_weight import Constant, LinearDecay
from .method import Branches, Method
from .objectives import TET, LossSum, SelfDistillation, StepLossSum

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
        ValueError: there is no such method.

    Example:
        >>> str(method_named("evolutionary"))
        'branches at stages, logit_sum, lambda linear from 0.25'
    """
    if method is None or isinstance(method, Method):
        return method
    if method in NETWORKS:
        raise ValueError(
            f"the preset {method!r} changes the network's layers, which a method leaves as they are: build the network "
            f"so, or use one of {', '.join(METHODS)}"
        )
    if method not in METHODS:
        raise ValueError(f"no method {method!r}{suggestion(method, METHODS)}; there are: {', '.join(METHODS)}")
    return METHODS[method]
