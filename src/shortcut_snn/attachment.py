"""One call that wraps any network with branches: introspection, then the method.

The module is not called ``attach``: importing a submodule ``shortcut_snn.attach`` would replace the function.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._utils.calls import Reset, evaluation, example_of, inputs_of, map_tensors
from .introspection import CALL_ERRORS, OpenQuestion, ask, ask_about_one_hot, introspect, stages_span_most, wrap_network
from .method import (
    Constant,
    Criterion,
    Extract,
    Head,
    Layout,
    Readout,
    Shortcut,
    ShortcutOutput,
    TimeAxis,
    takes_every_step,
)

Auto = Literal["auto"]


def attach(
    network: nn.Module,
    taps: str | int | Sequence[str] = "auto",
    *,
    example: Any = None,
    labels: Tensor | None = None,
    method: str | None = None,
    criterion: Criterion | Auto = "auto",
    num_classes: int | None = None,
    loop: Literal["auto", "network", "input"] | int = "auto",
    batch_axis: int | Auto = "auto",
    readout: Extract | Literal["auto", "mean", "last", "max", "sum"] | None = "auto",
    step_axis: int | Auto | None = "auto",
    reset: Reset | Auto | None = "auto",
    head: Head | str | Mapping[str, Any] | None = None,
    time_axis: TimeAxis | Auto | Sequence[TimeAxis | Auto] = "auto",
    channel_axis: int | Auto | Sequence[int | Auto] = "auto",
    extract: Extract | None = None,
    samples: int | None = None,
    pack: bool = False,
    log: Callable[[str], object] = print,
) -> Shortcut:
    """Wrap a network of SpikingJelly, snnTorch, Norse, sinabs, plain PyTorch or your own for training with branches.

    Whatever is left at ``"auto"`` is inferred by forward passes of ``example`` through copies of the network. The
    network itself, its state and all random states stay as they are. The result is ``model.layout``.

    Args:
        network: maps a batch, or one time step of it, to logits, perhaps of every time step, perhaps in a tuple.
        taps: ``"auto"``: the ends of its stages, or else 3 places evenly spread; with a method, where the method has
            them. A number: as many places. Or ``"stages"``, ``"blocks"`` or names; see :class:`Shortcut`.
        example: a batch as in training; its values do not matter. A tuple or a dictionary of inputs is passed to the
            network as its arguments, if it takes these. Not needed for built-in networks.
        labels: of the example, or its targets. Their number tells samples from time steps, their classes tell logits
            from other outputs, and their shape ``[N, steps, variables]`` tells a forecast from logits.
        method: a preset such as ``"loss_sum"`` or ``"initialised"``. The wrapper gets its branches, its
            ``objective`` and its ``branch_weight``. A preset that initialises changes the network's norms and
            surrogates. It needs real data as ``example``, and ``labels``.
        criterion: the method's loss of one prediction, ``(prediction, target) -> scalar``. ``"auto"``: cross-entropy of
            classes and their probabilities, mean squared error of labels beyond 0 to 1.
        num_classes: width of the logits; inferred by default.
        loop: the time loop. ``"network"``: one call takes the whole batch. ``"input"``: one call takes one time step,
            and the wrapper calls the network for each step of a batch ``[T, N, ...]``, or ``[N, T, ...]`` with
            ``batch_axis=0``. An integer: likewise, on a static batch shown for this number of steps.
        batch_axis: the axis of samples in the example, 0 or 1.
        readout: maps the network's output to logits; see :class:`Shortcut`. ``"auto"`` finds the logits in a tuple or a
            dictionary and averages them over time, unless they are membrane potentials. ``"mean"``, ``"last"`` and
            ``"max"`` find them too, and say how they are read over time. None takes the output as it is.
        reset: returns the neurons to their initial state; see :class:`Shortcut`. None keeps their state.
        head: the auxiliary head of each branch; see :class:`Shortcut`.
        time_axis: of tapped outputs; see :class:`Shortcut`.
        channel_axis: of tapped outputs; see :class:`Shortcut`. One for all is taken where it cannot be inferred.
        extract: maps tapped outputs to tensors; see :class:`Shortcut`.
        samples: the number of samples of the example, for an example without labels.
        pack: in training, keep spikes for the backward pass as bits, whatever layer takes them. Gradients are the same.
        log: takes the summary of the layout, one line for each question.

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
        >>> model.branches[0].classifier
        Linear(in_features=5, out_features=3, bias=True)
    """
    if isinstance(taps, Tensor):
        raise TypeError("the second argument of attach names taps, got a tensor: pass a batch as example=...")
    preset = None if method is None else method_named(method)
    wrapper: Callable[..., Shortcut] = Shortcut
    if preset is not None:
        if preset.initialise and labels is None:
            raise ValueError(
                f"the method {method!r} initialises the network on real data: pass example=... and labels=..."
            )
        taps, wrapper = _taps_of(preset, network, taps, method), preset.gradient
        head = preset.branches.head if head is None and preset.branches is not None else head
    example = example_of(network, example)
    questions: list[OpenQuestion] = []
    try:
        layout = introspect(
            network,
            example,
            taps=taps,
            labels=labels,
            num_classes=num_classes,
            loop=loop,
            batch_axis=batch_axis,
            time_axis=time_axis,
            channel_axis=channel_axis,
            extract=extract,
            readout=readout,
            step_axis=step_axis,
            reset=reset,
            samples=samples,
        )
    except OpenQuestion as question:
        questions.append(question)
        layout = question.provisional
    if preset is not None and criterion == "auto":
        try:
            criterion = _infer_criterion(labels, layout)
        except OpenQuestion as question:
            questions.append(question)
    ask(questions)
    model = wrap_network(network, layout, example, head=head, wrapper=wrapper)
    log(layout.summary())
    if preset is not None:
        _apply_method(model, preset, criterion, example, labels, log)
    if pack:
        model.run = partial(_run_packed, model.run)
    return model


def method_named(name: str) -> Any:
    """Return the method of a preset."""
    from .components import suggestion
    from .recipes import PRESETS, recipe_of

    methods = [preset for preset, entries in PRESETS.items() if "network" not in entries]
    if name not in PRESETS:
        raise ValueError(f"no method {name!r}{suggestion(name, methods)}; there are: {', '.join(methods)}")
    if name not in methods:
        raise ValueError(
            f"the preset {name!r} changes the network's layers, which attach leaves as they are: build the network so, "
            f"or use one of {', '.join(methods)}"
        )
    return recipe_of(name).method


def _taps_of(
    preset: Any, network: nn.Module, taps: str | int | Sequence[str], name: str | None
) -> str | int | Sequence[str]:
    """Return the caller's taps, or those of a preset."""
    if preset.branches is None:
        if taps != "auto":
            raise ValueError(f"the method {name!r} has no branches: leave taps out, or choose another")
        return []
    wants_blocks = taps == "auto" and preset.branches.taps == "blocks"
    return "blocks" if wants_blocks and stages_span_most(network) else taps


def _infer_criterion(labels: Tensor | None, layout: Layout | None = None) -> Criterion:
    """Return the loss of one prediction, if the labels leave no choice; without a layout, one that may be right."""
    from .measurement import are_classes

    if labels is None:
        return F.cross_entropy
    ask_about_one_hot(labels)
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


def _of_numbers(criterion: Criterion) -> Criterion:
    """Return a loss of PyTorch's that never broadcasts its targets; another loss as it is."""
    return partial(_compare, criterion) if str(criterion.__module__).startswith("torch.nn.") else criterion


def _compare(criterion: Criterion, prediction: Tensor, target: Tensor) -> Tensor:
    from .measurement import in_shape_of

    # Indices of classes have fewer elements than the logits.
    is_number = target.is_floating_point() or target.numel() == prediction.numel()
    return criterion(prediction, in_shape_of(prediction, target) if is_number else target)


def _task_loss(
    objective: Any, loss: Criterion, merge: bool, output: Any, target: Any, branch_weight: float, criterion: Any = None
) -> Tensor:
    """Return an objective's loss with the loss of the task, over all steps of ``[T, N, ...]`` if these are merged."""
    if merge:
        branches = tuple(branch.flatten(0, 1) for branch in output.branches)
        output, target = ShortcutOutput(output.main.flatten(0, 1), branches), target.flatten(0, 1)
    total: Tensor = objective(output, target, branch_weight, _of_numbers(criterion or loss))
    return total


def _apply_method(
    model: Shortcut, preset: Any, criterion: Any, example: Any, labels: Any, log: Callable[[str], object]
) -> None:
    """Give a wrapper the objective and the branch weight of a preset, and initialise its network."""
    model.objective, merge_steps = preset.objective, model.step_axis == 0
    if merge_steps or criterion is not F.cross_entropy:
        model.objective = partial(_task_loss, preset.objective, criterion, merge_steps)
        log(f"loss:       {getattr(criterion, '__name__', criterion)}{' of every time step' if merge_steps else ''}")
    model.branch_weight = Constant(0.0) if preset.branches is None else preset.branches.branch_weight
    try:
        if takes_every_step(preset.objective):
            if not isinstance(model.readout, Readout) or model.readout.time_axis is None:
                raise ValueError(
                    f"the method needs the logits of every time step, which {type(model.network).__name__} does not "
                    "return: change the network, or use another method"
                )
            model.readout, model.taps.every_step = replace(model.readout, reduction="none"), True
        if labels is not None:
            _try_objective(model, example, labels)
        if preset.initialise:
            from .initialisation import initialise

            # The loss of the main output alone.
            log(str(initialise(model, example, labels, lambda output, labels: model.objective(output, labels, 0.0))))
    except BaseException:
        model.strip()
        raise


def _try_objective(model: Shortcut, example: Any, labels: Tensor) -> None:
    """Compute the loss of a copy's predictions once, so that one that does not fit the labels is refused here."""
    twin = copy.deepcopy(model)
    with evaluation(twin):
        # Branches predict in training mode alone.
        twin.training = True
        args, kwargs = inputs_of(model.network, map_tensors(torch.clone, example))
        output = twin(*args, **kwargs)
        try:
            model.objective(output, labels.to(output.main.device), 1.0)
        except CALL_ERRORS as error:
            raise ValueError(
                f"{error}: this is the loss of the example, so pass labels=... that fit, or criterion=... for network "
                "and branches, which give logits"
            ) from error


def _run_packed(run: Callable[..., Any] | None, network: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Return the output of a network, and keep the spikes in it for the backward pass as bits."""
    from .neurons import packed_spikes

    with packed_spikes(nn.Module.modules(network)):
        return network(*args, **kwargs) if run is None else run(network, *args, **kwargs)
