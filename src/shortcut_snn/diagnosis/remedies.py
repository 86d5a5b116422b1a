"""Remedies that can be tried on a network as it stands, on a copy of it."""

import copy
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import components
from ..introspection import find_neurons, introspect, reset_of, steepness, wrap_network
from ..method import PLACEMENTS, Readout, Reset, Shortcut, ShortcutOutput, TimeLoop, resolve
from ..module_state import preserving_state
from ..neurons import IF, LIF, Neuron, Resizable
from .calibration import calibrate, set_widths
from .layers import Batch, Loss
from .tips import Remedy, Setup

WIDTHS = (0.25, 0.5, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 8.0)
DECAYS = (0.0, 0.25, 0.5, 0.75, 1.0)
THRESHOLDS = (0.25, 0.5, 1.0, 2.0)
BALANCES = (0.25, 1.0)


def of_neurons(setup: Setup, batches: Sequence[Batch]) -> list[Remedy]:
    """Return what can be changed about the neurons: surrogate, decay, reset, threshold.

    Args:
        setup: the network.
        batches: to calibrate on.
    """
    layers = find_neurons(setup.network)
    ours = [neuron for neuron in layers.values() if isinstance(neuron, Neuron)]
    if len(ours) < len(layers):
        return _of_others(setup, batches)
    found: list[Remedy] = []
    if all(isinstance(neuron.surrogate, Resizable) for neuron in ours):
        found.append(_calibrated(setup, batches, "--method.calibrate true"))
        found += [
            Remedy(
                "width",
                f"surrogate width {width:g} in all layers{_options([n.surrogate for n in ours], width)}",
                _resized(setup, width),
            )
            for width in WIDTHS
        ]
    if all(isinstance(neuron, LIF) and not isinstance(neuron, IF) for neuron in ours):
        found += _attribute(setup, "decay", DECAYS, "decay {0:g} (--neuron.decay {0:g})")
    found += _attribute(setup, "threshold", THRESHOLDS, "threshold {0:g} (--neuron.threshold {0:g})")
    return found + _attribute(setup, "detach_reset", (True, False), "detached reset: {0} (--neuron.detach_reset {0})")


def of_branches(setup: Setup, batches: Sequence[Batch], reset: Reset | None) -> list[Remedy]:
    """Return the branches that a network without any could have.

    Args:
        setup: the network, not in a wrapper.
        batches: one is run to find the number of classes.
        reset: see :func:`~.layers.examine`.
    """
    if isinstance(setup.model, Shortcut) and setup.model.layout is not None and not setup.model.branches:
        return _found_branches(setup, batches[0][0], reset)
    if setup.inner is not None:
        return []
    reset = reset_of(setup.model, reset)
    with preserving_state(setup.model), torch.no_grad():
        reset(setup.model)
        logits = setup.model(batches[0][0])
        reset(setup.model)
    if not isinstance(logits, Tensor):
        # What to add branches' logits to, only the caller's loss knows.
        return []
    wrap = partial(Shortcut, num_classes=logits.shape[-1], example=batches[0][0], reset=reset)
    found = []
    for where in PLACEMENTS:
        try:
            resolve(setup.network, where)
        except ValueError:
            continue
        found += [
            Remedy(
                "branches",
                f"branches at the {where}, lambda from {weight:g} (Shortcut, or --preset evolutionary "
                f"--method.branches.taps {where} --method.branches.branch_weight.initial {weight:g})",
                lambda where=where, weight=weight: _wrapped(setup, where, weight, wrap),  # type: ignore[misc]
            )
            for weight in BALANCES
        ]
    return found


def of_main(loss: Loss) -> Loss:
    """Return a loss of a wrapper's output, of one of what the network gives."""
    return lambda output, labels: loss(output.main, labels)


def _found_branches(setup: Setup, example: Any, reset: Reset | None) -> list[Remedy]:
    """Branches where :func:`shortcut_snn.attach` finds a place; it refuses what cannot be built."""
    bare: Any = setup.model

    @cache
    def built(taps: str | int) -> tuple[Shortcut, Any]:
        """The wrapper, and where logits are in what the network gives."""
        how: Any = {"reset": reset or bare.layout.reset}
        if isinstance(bare.run, TimeLoop):
            loop = "input" if bare.run.steps is None else bare.run.steps
            how |= {"loop": loop, "batch_axis": bare.layout.batch_axis}
        if bare.readout is not None:
            how["readout"] = bare.readout
        network = copy.deepcopy(bare).network
        model = wrap_network(network, introspect(network, example, taps=taps, **how), example)
        found = model.readout
        if bare.readout is None:
            # The loss is the caller's, of what the network gives.
            model.readout = None
        return model, found

    def apply(taps: str | int, weight: float) -> Setup:
        model, found = built(taps)

        def loss(output: ShortcutOutput, labels: Tensor) -> Tensor:
            added = weight * sum(output.branches)
            summed = bare.readout is None and isinstance(found, Readout)
            main = found.add(output.main, added) if summed else output.main + added
            return setup.loss(ShortcutOutput(main), labels)

        return Setup(model, loss, model.network)

    return [
        Remedy("branches", f"branches {text}, lambda {weight:g} (attach)", partial(apply, taps, weight))
        for taps, text in (("stages", "at the stages"), ("blocks", "at the blocks"), (3, "at three places"))
        for weight in BALANCES
    ]


def _calibrated(setup: Setup, batches: Sequence[Batch], how: str) -> Remedy:
    text = f"calibrate each layer's surrogate ({how})"
    apply = _changed(setup, lambda made: calibrate(made.network, batches[:1], made.loss, model=made.model))
    return Remedy("calibrated", text, apply)


def _changed(setup: Setup, change: Callable[[Setup], object]) -> Callable[[], Setup]:
    def apply() -> Setup:
        model, inner = copy.deepcopy((setup.model, setup.inner))
        made = Setup(model, setup.loss, inner)
        change(made)
        return made

    return apply


def _options(surrogates: Sequence[Any], width: float) -> str:
    """Return the options that give all layers such surrogates, in brackets; nothing where there are none."""
    if len({type(surrogate) for surrogate in surrogates}) > 1:
        return ""
    try:
        entries = components.write(surrogates[0].resized(width))
    except ValueError:  # not registered
        return ""
    said = [f"--neuron.surrogate.{name} {value:g}" for name, value in entries.items() if isinstance(value, int | float)]
    return f" ({' '.join(said)})" if said else ""


def _resized(setup: Setup, width: float) -> Callable[[], Setup]:
    widths = dict.fromkeys(find_neurons(setup.network), width)
    return _changed(setup, lambda made: set_widths(made.network, widths))


def _attribute(setup: Setup, name: str, values: Sequence[Any], text: str) -> list[Remedy]:
    """Remedies that give one attribute of all neurons another value."""

    def setting(value: Any) -> Callable[[Setup], None]:
        def change(made: Setup) -> None:
            for neuron in find_neurons(made.network).values():
                setattr(neuron, name, value)

        return change

    now = {getattr(neuron, name) for neuron in find_neurons(setup.network).values()}
    return [
        Remedy(name, text.format(value), _changed(setup, setting(value))) for value in values if now != {value}
    ]  # fmt: skip


def _of_others(setup: Setup, batches: Sequence[Batch]) -> list[Remedy]:
    """Remedies for surrogates of SpikingJelly, snnTorch and Norse, all of them with an ``alpha`` or a ``slope``."""
    layers = find_neurons(setup.network).values()
    if not layers or any(steepness(neuron) is None for neuron in layers):
        return []
    return [
        _calibrated(setup, batches, 'attach(..., method="calibrated"), or calibrate'),
        *(Remedy("width", f"alpha or slope {value:g} in all surrogates", _resized(setup, value)) for value in WIDTHS),
    ]


def _wrapped(setup: Setup, where: str, weight: float, wrap: Callable[[nn.Module, str], Shortcut]) -> Setup:
    network = copy.deepcopy(setup.model)

    def loss(output: ShortcutOutput, labels: torch.Tensor) -> torch.Tensor:
        return setup.loss(output.main + weight * sum(output.branches), labels)

    return Setup(wrap(network, where), loss, network)
