"""Presets: methods by name, each a part of a recipe that is laid over the rest before it is read.

The paper's methods, ours, and the rivals they are compared with. One of your own is a YAML file of the same form.
"""

from typing import Any


def _method(objective: Any = "logit_sum", gradient: str = "bptt", calibrate: bool = False, **branches: Any) -> Any:
    """All that tells one method from another, so that a preset takes the place of any other."""
    return {
        "branches": {"head": None, "by": "step", **branches} if branches else None,
        "objective": {"kind": objective} if isinstance(objective, str) else objective,
        "gradient": {"kind": gradient},
        "calibrate": calibrate,
    }


_LINEAR = {"kind": "linear", "initial": 0.25}
_ALWAYS = {"kind": "constant", "value": 1.0}

PAPER = ("vanilla", "shortcut", "evolutionary")
"""The methods of the paper."""

PRESETS: dict[str, dict[str, Any]] = {
    # No branches.
    "vanilla": {"method": _method()},
    # The paper's: one cross-entropy on main + lambda * sum of branches.
    "shortcut": {"method": _method(taps="stages", schedule=_ALWAYS)},
    "evolutionary": {"method": _method(taps="stages", schedule=_LINEAR)},
    # For deep networks: a loss for a branch at every block, fading; and ours, with calibrated surrogates besides.
    "loss_sum": {"method": _method("loss_sum", taps="blocks", schedule=_LINEAR)},
    "calibrated": {"method": _method("loss_sum", calibrate=True, taps="blocks", schedule=_LINEAR)},
    # Rivals with branches: deep supervision (Lee et al., 2015); they also learn from the main output's soft labels.
    "deep_supervision": {"method": _method("loss_sum", taps="stages", schedule=_ALWAYS)},
    "distillation": {"method": _method("distillation", taps="stages", schedule=_ALWAYS)},
    # Supervision at stages and time steps with surrogates that are fitted first, as DeepTAGE has it (2025).
    "stages_and_steps": {"method": _method("step_loss_sum", calibrate=True, taps="stages", schedule=_ALWAYS)},
    # Rivals without: a loss at every time step; batch norm that starts at the threshold; other residual blocks; how
    # gradients pass through time.
    "tet": {"method": _method("tet")},
    "tdbn": {"method": _method(), "network": {"norm": "tdbn"}},
    "sew": {"method": _method(), "network": {"block": "sew"}},
    "ms": {"method": _method(), "network": {"block": "ms"}},
    "sltt": {"method": _method(gradient="sltt")},
    "rate": {"method": _method(gradient="rate")},
}
