"""One call that wraps any network with branches: introspection, then the method.

The module is not called ``attach``: importing a submodule ``shortcut_snn.attach`` would replace the function.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypedDict, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._utils.calls import Reset, example_of
from .components.registry import suggestion
from .introspection import introspect
from .introspection.answer import OpenQuestion, ask
from .introspection.inference import reproducing_arguments
from .introspection.neurons import custom_neurons
from .introspection.outputs import is_spikes
from .method import Layout, Method, Shortcut, TimeLoop, method_named
from .method.taps import Extract, TimeAxis, Unfold
from .method.targets import Criterion, are_classes
from .wrapping import HeadChoice, placement, wrap

Auto = Literal["auto"]


class Known(TypedDict, total=False):
    """The part of a network's layout that a caller knows; :func:`attach` infers the rest."""

    num_classes: int | None
    loop: Literal["auto", "network", "input"] | int | TimeLoop
    batch_axis: int | Auto
    readout: Extract | Literal["auto", "mean", "last", "max", "sum"] | None
    step_axis: int | Auto | None
    reset: Reset | Auto | None
    time_axis: TimeAxis | Auto | Sequence[TimeAxis | Auto]
    channel_axis: int | Auto | Sequence[int | Auto]
    extract: Extract | Mapping[str, Extract] | None
    samples: int | None


def attach(
    network: nn.Module,
    taps: str | int | Sequence[str] = "auto",
    *,
    example: Any = None,
    labels: Tensor | None = None,
    method: Method | str | None = None,
    layout: Layout | None = None,
    criterion: Criterion | Auto = "auto",
    head: HeadChoice = None,
    spiking: type[nn.Module] | tuple[type[nn.Module], ...] = (),
    log: Callable[[str], object] = print,
    **known: Unpack[Known],
) -> Shortcut:
    """Wrap a network of SpikingJelly, snnTorch, Norse, sinabs, plain PyTorch or your own for training with branches.

    Whatever is left at ``"auto"`` is inferred by forward passes of ``example`` through copies of the network. The
    network itself, its state and all random states stay as they are. The result is ``model.layout``.

    Args:
        network: maps a batch, or one time step of it, to logits, perhaps of every time step, perhaps in a tuple.
        taps: ``"auto"`` taps the ends of stages, or three evenly spread places; with a method, the method's places. A
            number asks for that many places. Also ``"stages"``, ``"blocks"`` or names; see :class:`Shortcut`.
        example: a batch as in training; its values do not matter. A tuple or a dictionary of inputs is passed to the
            network as its arguments, if it takes these. Not needed for built-in networks.
        labels: labels or targets of the example. Their number distinguishes samples from time steps. Their classes and
            shape are compared with the output.
        method: a :class:`~shortcut_snn.method.Method`, or the name of a preset such as ``"loss_sum"`` or
            ``"initialised"``. ``model.loss`` then is its loss. A method that initialises changes the network's norms
            and surrogates. It needs real data as ``example``, and ``labels``.
        layout: the network's layout, written down or from an earlier call. The passes verify it.
        criterion: the loss of one prediction, ``(prediction, target) -> scalar``. ``"auto"``: cross-entropy of
            classes and their probabilities, mean squared error of labels beyond 0 to 1.
        num_classes: width of the logits; inferred by default.
        loop: the time loop. ``"network"``: one call takes the whole batch. ``"input"``: one call takes one time step,
            and the wrapper calls the network for each step of a batch ``[T, N, ...]``, or ``[N, T, ...]`` with
            ``batch_axis=0``. An integer does the same with a static batch, shown for this number of steps. A
            :class:`~shortcut_snn.TimeLoop` also names, in ``carry``, the arguments that receive a step's state.
        batch_axis: the axis of samples in the example, 0 or 1.
        readout: maps the network's output to logits; see :class:`Shortcut`. ``"auto"`` uses the only tensor, or a
            tensor with a name such as ``"logits"``, and averages a layer's outputs over time if neurons are
            SpikingJelly's or built in. ``"mean"``, ``"last"``, ``"max"`` and ``"sum"`` set how the logits are read over
            time. None uses the output unchanged.
        step_axis: the axis of time in the prediction, if labels have values for each time step; None to predict all of
            them at once.
        reset: returns the neurons to their initial state; see :class:`Shortcut`. None keeps their state.
        head: the auxiliary head of each branch; see :class:`Shortcut`.
        time_axis: of tapped outputs; see :class:`~shortcut_snn.method.Tap`, also for ``extract``.
        channel_axis: of tapped outputs. A single axis is used where none can be inferred.
        extract: maps tapped outputs to tensors.
        samples: the number of samples of the example, for an example without labels.
        spiking: classes of custom neurons, for a method that initialises them.
        log: takes the summary of the layout, one line for each question, with the call that repeats it without a guess.

    Raises:
        TypeError: the network is not a module, or the taps are a tensor.
        ValueError: answers remain open, and one message names the arguments to pass; or the method does not fit.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
        >>> model = attach(network, ["1"], example=torch.rand(2, 4))
        neurons:    plain PyTorch
        time loop:  one call for the whole batch (it takes the example and keeps no state)
        reset:      not needed (no state outlives a forward pass)
        batch axis: 0 (altering one sample along it changes this sample of the output alone)
        readout:    output, 3 classes (the only tensor)
        taps:       1 (5 channels) (your taps=[...])
        as a call:  attach(net, taps=['1'], loop='network', batch_axis=0, readout=None, num_classes=3)
        >>> model.branches[0].classifier
        Linear(in_features=5, out_features=3, bias=True)
    """
    if isinstance(taps, Tensor):
        raise TypeError("the second argument of attach names taps, got a tensor: pass a batch as example=...")
    check_known({"layout": layout, **known})
    method = method_named(method)
    if method is not None and method.initialise and labels is None:
        raise ValueError("the method initialises the network on real data: pass example=... and labels=...")
    if method is not None and hasattr(network, "_orig_mod"):
        raise ValueError("the network is compiled already: attach net._orig_mod, and compile the wrapper")
    if method is not None and getattr(network, "_compiled_call_impl", None) is not None:
        raise ValueError("the network is compiled already: leave net.compile() out, and compile the wrapper")
    example = example_of(network, example)
    if method is not None and method.branches is None:
        if taps not in ("auto", []):
            raise ValueError(f"the method has no branches ({method}): leave taps out, or choose another method")
        taps = []
    if layout is not None:
        taps, known = _declared(taps, layout, known)
        if criterion == "auto":
            criterion = layout.criterion or "auto"
    if method is not None and method.branches is not None and taps == "auto":
        taps = placement(network, method.branches.taps)
    if method is not None and method.needs_every_step and known.get("readout", "auto") == "auto":
        # The method takes the logits of every step. In evaluation they are averaged.
        known["readout"] = "mean"
    questions: list[OpenQuestion] = []
    try:
        layout = introspect(network, example, taps=taps, labels=labels, **known)
    except OpenQuestion as question:
        questions.append(question)
        layout = question.provisional
    chosen = None if criterion == "auto" else criterion
    if criterion == "auto" and labels is not None:
        try:
            chosen = _infer_criterion(labels, layout)
        except OpenQuestion as question:
            questions += [question] if method is not None else []
    ask(questions)
    assert layout is not None
    layout = replace(layout, criterion=chosen)
    given = reproducing_arguments(layout)
    given |= {name: repr(known[name]) for name in ("time_axis", "channel_axis") if known.get(name, "auto") != "auto"}
    given |= {"extract": "..."} if known.get("extract") else {}
    given |= {"criterion": "..."} if criterion != "auto" else {}
    arguments = ", ".join(f"{name}={value}" for name, value in given.items())
    lines = [layout.summary(), *([] if method is None else [f"method:     {method}"])]
    log("\n".join([*lines, f"as a call:  attach(net, {arguments})"]))
    with custom_neurons(spiking):
        return wrap(network, layout, method, example=example, labels=labels, head=head, log=log)


def check_known(known: Mapping[str, object]) -> None:
    """Raise an error for an argument that :func:`attach` does not have, a layout or an axis of time that is none."""
    parameters = inspect.signature(attach).parameters.values()
    choices = [one.name for one in parameters if one.kind is not one.VAR_KEYWORD] + [*Known.__annotations__]
    for name in known.keys() - choices:
        raise TypeError(f"attach has no argument {name!r}{suggestion(name, choices)}")
    if not isinstance(layout := known.get("layout"), Layout | None):
        raise TypeError(f"layout=... is a Layout, as attach(...).layout, got {layout!r}")
    axes = known.get("time_axis")
    for axis in axes if isinstance(axes, list | tuple) else [axes]:
        if axis not in ("auto", None, 0, 1):
            raise ValueError(f"time_axis must be 0, 1 or None, got {axis!r}")


def _declared(taps: str | int | Sequence[str], layout: Layout, known: Known) -> tuple[str | int | Sequence[str], Known]:
    """Return the taps of a declared layout, and its fields as what is known: introspection then verifies them."""
    if layout.run is not None and not isinstance(layout.run, TimeLoop):
        raise ValueError("layout.run must be a TimeLoop or None: pass a layout with another run to wrap")
    loop: TimeLoop | Literal["network"] = "network" if layout.run is None else layout.run
    declared: Known = {"loop": loop, "readout": layout.readout, "reset": layout.reset, "step_axis": layout.step_axis}
    if layout.batch_axis is not None:
        declared["batch_axis"] = layout.batch_axis
    if layout.num_classes:
        declared["num_classes"] = layout.num_classes
    if layout.taps and taps == "auto":
        taps = [tap.name for tap in layout.taps]
        times, extracts = list[TimeAxis | Auto](), dict[str, Extract]()
        for tap in layout.taps:
            # How a batch axis splits into time and samples follows from the example.
            unfold = tap.extract if isinstance(tap.extract, Unfold) else None
            times.append("auto" if unfold else tap.time_axis)
            if extract := unfold.extract if unfold else tap.extract:
                extracts[tap.name] = extract
        declared |= {"time_axis": times, "extract": extracts}
        declared["channel_axis"] = ["auto" if tap.channel_axis is None else tap.channel_axis for tap in layout.taps]
    return taps, {**declared, **known}


def _infer_criterion(labels: Tensor, layout: Layout | None) -> Criterion:
    """Return the loss of one prediction, if the labels leave no choice; without a layout the answer is not final."""
    if labels.dim() == 2 and labels.shape[1] > 1 and is_spikes(labels) and bool((labels.sum(1) == 1).all()):
        raise OpenQuestion(
            "labels are one-hot: pass criterion=torch.nn.functional.cross_entropy, or "
            "criterion=torch.nn.functional.mse_loss for squared errors, as of firing rates"
        )
    if labels.is_floating_point():
        forms = [labels] if layout is None or layout.step_axis != 0 else []
        if labels.dim() > 1 and (layout is None or layout.step_axis == 0):
            forms.append(labels.flatten(0, 1))
        if any(map(are_classes, forms)):
            return F.cross_entropy
        if bool((labels < 0).any() or (labels > 1).any()):
            return F.mse_loss
    elif labels.dtype != torch.bool:
        if layout is None:
            return F.cross_entropy
        # Zeros and ones for each output are not indices of classes.
        flags = labels.shape[1:] == (layout.num_classes,) and layout.shape is None and layout.step_axis is None
        if layout.num_classes > 1 and not flags:
            return F.cross_entropy
    raise OpenQuestion(
        "these labels may be compared in several ways: pass criterion=..., such as torch.nn.functional."
        "binary_cross_entropy_with_logits for zeros and ones, or mse_loss for numbers"
    )
