"""Any network, in one call, with all of a method: what :func:`.method.attach` does, and what a preset says besides."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .introspection import attach as attach_branches
from .introspection.probing import is_layer, named
from .method import Constant, Readout, Shortcut, example_of, stages, takes_every_step


def attach(
    network: nn.Module,
    taps: str | int | Sequence[str] = "auto",
    *,
    method: str | None = None,
    labels: Tensor | None = None,
    pack: bool = False,
    log: Callable[[str], object] = print,
    **options: Any,
) -> Shortcut:
    """Wrap a network of SpikingJelly, snnTorch, Norse, sinabs, plain PyTorch or your own for training with branches.

    How it is called, put to rest and read, and where branches go, is found by passes of ``example`` through copies.

    Args:
        network: see :func:`shortcut_snn.method.attach`.
        taps: likewise; by default where the method has them, if the network has stages or blocks.
        method: a preset such as ``"evolutionary"`` or ``"calibrated"``: the wrapper has its branches, its ``objective``
            and its ``branch_weight``. Where it calibrates surrogates, those of the network are set, on
            ``example``, which must be real data then, and ``labels``; they stay set when the branches are gone.
        labels: of the example, or its targets: see :func:`shortcut_snn.method.attach`.
        pack: in training, keep spikes for the backward pass as bits, whatever layer takes them; gradients are the same.
        log: takes the lines that say what was found.
        options: all other arguments of :func:`shortcut_snn.method.attach`, such as ``example`` and ``loop``.

    Raises:
        ValueError: something cannot be told, and the message says what to pass; or the method is none for the network.

    Example:
        >>> import torch
        >>> from shortcut_snn import neurons
        >>> layers = [[nn.Linear(20, 20), neurons.LIF(surrogate=neurons.ATan())] for _ in range(4)]
        >>> network = nn.Sequential(*(layer for pair in layers for layer in pair), nn.Linear(20, 3))
        >>> frames, labels = 9 * torch.rand(4, 8, 20), torch.arange(8) % 3  # [T, N, 20]
        >>> model = attach(network, method="calibrated", example=frames, labels=labels, log=lambda line: None)
        >>> loss = model.objective(model(frames), labels, model.branch_weight(0, 100))
        >>> model.branch_weight, list(model.widths)
        (LinearDecay(initial=0.25), ['1', '3', '5'])
    """
    options["labels"] = labels
    if method is None:
        model = attach_branches(network, taps, log=log, **options)
    else:
        model = _as_preset(network, taps, method, log, options)
    if pack:
        model.run = PackedRun(model.run)
    return model


@dataclass(frozen=True)
class PackedRun:
    """Calls a network and keeps spikes that any of its modules gives for the backward pass as bits.

    Args:
        run: what calls it; None for one call.

    Example:
        >>> import torch
        >>> PackedRun(None)(nn.ReLU(), torch.ones(2))
        tensor([1., 1.])
    """

    run: Callable[..., Any] | None

    def __call__(self, network: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Return what the network gives."""
        from .neurons import packed_spikes

        with packed_spikes(nn.Module.modules(network)):
            return network(*args, **kwargs) if self.run is None else self.run(network, *args, **kwargs)


@dataclass(frozen=True)
class EveryStep:
    """Takes a network's output and returns the logits of every time step, ``[T, N, classes]``.

    Args:
        readout: what averages them.

    Example:
        >>> import torch
        >>> EveryStep(Readout((), 1))(torch.ones(2, 4, 3)).shape
        torch.Size([4, 2, 3])
    """

    readout: Readout

    def __call__(self, output: Any) -> Tensor:
        """Return them."""
        logits, axis = self.readout.find(output), self.readout.time_axis
        assert axis is not None
        return (logits if self.readout.unfold is None else self.readout.unfold(logits)).movedim(axis, 0)


def method_named(name: str) -> Any:
    """Return a preset's part of a recipe, ``method``.

    Raises:
        ValueError: there is none of the name, or it is a change of the network.

    Example:
        >>> method_named("calibrated").calibrate
        True
    """
    from .components import suggestion
    from .recipes import PRESETS, recipe_of

    whole = [preset for preset, entries in PRESETS.items() if "network" not in entries]
    if name not in PRESETS:
        raise ValueError(f"no method {name!r}{suggestion(name, whole)}; there are: {', '.join(whole)}")
    if name not in whole:
        raise ValueError(
            f"the preset {name!r} is a change of the network's own layers, which attach leaves as they are: make it "
            f"there, or choose one of {', '.join(whole)}"
        )
    return recipe_of(name).method


def _as_preset(
    network: nn.Module,
    taps: str | int | Sequence[str],
    name: str,
    log: Callable[[str], object],
    options: dict[str, Any],
) -> Shortcut:
    method, labels = method_named(name), options["labels"]
    if method.calibrate and labels is None:
        raise ValueError(
            f"the method {name!r} calibrates surrogates on a batch of real data: pass it as example=..., and labels=..."
        )
    branches, head = method.branches, {}
    if branches is not None:
        head = {"head": branches.head}
        taps = "blocks" if taps == "auto" and branches.taps == "blocks" and _has_stages(network) else taps
    elif taps == "auto":
        taps = []
    else:
        raise ValueError(f"the method {name!r} has no branches: leave taps out, or choose another")
    model = attach_branches(network, taps, log=log, **{"wrap": method.gradient, **head, **options})
    model.objective, model.branch_weight = (
        method.objective,
        Constant(0.0) if branches is None else branches.branch_weight,
    )
    try:
        if takes_every_step(method.objective):
            if not isinstance(model.readout, Readout) or model.readout.time_axis is None:
                raise ValueError(
                    f"the method {name!r} needs the logits of every time step, which {type(network).__name__} does not "
                    "give: let it return them, or choose another"
                )
            model.readout, model.taps.every_step = EveryStep(model.readout), True
        if method.calibrate:
            _calibrate(model, example_of(network, options.get("example")), labels, log)
    except BaseException:
        model.strip()
        raise
    return model


def _has_stages(network: nn.Module) -> bool:
    """Whether it has stages that hold most of its layers."""
    names = tuple(f"{stage}." for stage in stages(network))
    layers = [name for name, module in named(network) if is_layer(module)]
    return len(names) > 1 and 2 * sum(name.startswith(names) for name in layers) >= len(layers)


def _calibrate(model: Shortcut, example: Any, labels: Any, log: Callable[[str], object]) -> None:
    from .diagnosis import LayerReport, calibrate, examine

    def loss(output: Any, labels: Any) -> Any:
        return model.objective(output, labels, 0.0)

    def layers() -> Sequence[LayerReport]:
        return examine(model, [(example, labels)], loss, network=model.network).layers

    (*_, last) = layers()
    if not 0 < last.norm < math.inf:
        raise ValueError(
            f"the norm of the gradient at the last spiking layer, {last.layer}, is {last.norm:g} with this example, so "
            "that no surrogate can be calibrated by it: pass example=... as a batch of data at which layers fire, or "
            "choose a method without calibration"
        )
    model.widths = calibrate(model.network, [(example, labels)], loss, model=model)
    (*before, last) = layers()
    off = [layer.layer for layer in before if not 0.9 < layer.norm / last.norm < 1.1]
    log(
        "surrogates calibrated: the gradient has the norm of the last spiking layer's in "
        f"{len(before) - len(off)} of the {len(before)} before it"
        + (f"; out of reach in {', '.join(off)}" if off else "")
    )
