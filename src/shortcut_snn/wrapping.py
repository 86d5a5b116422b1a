"""Wrapping a network for training: branches at its taps, the method's objective and weight, and its initialisation.

The module is not called ``wrap``: importing a submodule ``shortcut_snn.wrap`` would replace the function.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from . import components
from ._utils.calls import call_on, dry_copy, evaluation, example_of, inputs_of, map_tensors
from .components.entries import read
from .initialisation import initialise
from .introspection.layers import stages_span_most
from .introspection.probe import CALL_ERRORS
from .method import DenseHead, Layout, LinearHead, Method, Shortcut, method_named
from .method.heads import Head
from .method.shortcut import check_predictions

HeadChoice = Head | str | Mapping[str, Any] | None
"""A factory of heads, the recipe entry of a registered one, or None for the default."""


def wrap(
    network: nn.Module,
    layout: Layout,
    method: Method | str | None = None,
    *,
    example: Any = None,
    labels: Tensor | None = None,
    head: HeadChoice = None,
    log: Callable[[str], object] = print,
) -> Shortcut:
    """Wrap a network for training with a method.

    It makes a head for each tap of the layout, prepares the gradient mechanism, and tries the loss. With labels it
    also initialises the network if the method says so. Random states stay as they are: network and data see the same
    random numbers with and without branches. If it raises, nothing has changed.

    Args:
        layout: how the network is called, reset, read and tapped: from :func:`shortcut_snn.attach`,
            ``network.layout()``, or written down. A method without branches ignores its taps.
        method: the method, or the name of a preset; None for branches without a method.
        example: a batch for the pass that finds the width of each head; not needed for built-in networks.
        labels: targets of the example, to try the loss on.
        head: makes the head of a branch; by default the method's.
        log: takes what an initialisation reports.

    Raises:
        TypeError: the layout is no :class:`~shortcut_snn.method.Layout`.
        ValueError: network, layout and method do not fit.

    Example:
        >>> from shortcut_snn import nets
        >>> network = nets.spiking_resnet18(num_classes=10, time_steps=2, width=4)
        >>> model = wrap(network, network.layout("blocks"), "loss_sum")
        >>> len(model.branches), str(model.method)
        (7, 'branches at blocks, loss_sum, lambda linear from 0.25')
    """
    if not isinstance(layout, Layout):
        raise TypeError(f"the second argument of wrap is a Layout, as network.layout(...), got {layout!r}")
    method = method_named(method)
    neurons = [module for module in network.modules() if hasattr(module, "detach_membrane")]
    before: dict[nn.Module, Any] = {neuron: neuron.detach_membrane for neuron in neurons}
    with ExitStack() as undo:
        for module, value in before.items():
            undo.callback(setattr, module, "detach_membrane", value)
        if method is not None:
            layout = method.gradient(network, layout)
            if method.branches is None:
                layout = replace(layout, taps=())
            elif head is None:
                head = method.branches.head
        heads = make_heads(network, layout, example_of(network, example), head) if layout.taps else ()
        model = Shortcut(network, layout, heads, method)
        undo.callback(model.strip)
        modules = network.named_modules()
        model.truncated = [name for name, module in modules if before.get(module) is False and module.detach_membrane]
        if method is not None and labels is not None:
            _try_loss(model, example, labels)
            if method.initialise:
                log(str(initialise(model, example, labels, model.main_loss)))
        # Nothing was raised, so nothing is undone.
        undo.pop_all()
    return model


def placement(network: nn.Module, taps: str | int | Sequence[str]) -> str | int | list[str]:
    """Return the taps of a method as introspection takes them: blocks where stages hold most of the network."""
    if not isinstance(taps, str):
        return taps if isinstance(taps, int) else list(taps)
    return "blocks" if taps == "blocks" and stages_span_most(network) else "auto"


def make_heads(network: nn.Module, layout: Layout, example: Any, head: HeadChoice = None) -> list[nn.Module]:
    """Return a head for each tap of a layout, after a pass through a copy of the network that finds their widths."""
    twin = dry_copy(network, layout.reset)
    probe = Shortcut(twin, layout)
    taps = probe.taps
    taps.pools = [False] * len(layout.taps)
    with evaluation(twin), probe.batch_size(*inputs_of(twin, example)):
        taps.start()
        output = call_on(twin, layout.run, example)
        tapped = taps.stop()
        main = probe.steps_first(layout.read(output))
    check_predictions(taps, tapped, main, layout)
    if taps.every_step:
        tapped, main = [features.flatten(0, 1) for features in tapped], main[0]
    if head is None:
        # A prediction at every position has a head at every position.
        dense = isinstance(main, Tensor) and main.dim() > (2 if layout.shape is None else 3)
        head = DenseHead if dense else LinearHead
    make: Head = read(components.head, head, "head") if isinstance(head, str | Mapping) else head
    reference = next(nn.Module.parameters(network), torch.empty(0))
    # Built on the CPU, so that one seed gives the same branches on every device.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        heads = [_make_head(make, features, layout) for features in tapped]
    # A network may be spread over devices: each branch goes to the device of its tap.
    return [made.to(features.device, reference.dtype) for made, features in zip(heads, tapped, strict=True)]


def _make_head(make: Head, features: Tensor, layout: Layout) -> nn.Module:
    """Return a head of ``num_classes`` outputs, or of all numbers of ``shape`` if it predicts one axis alone."""
    head = make(features.shape[1], layout.num_classes)
    if layout.shape is None:
        return head
    pooled = features.flatten(2).mean(2) if getattr(head, "pools", True) and features.dim() > 2 else features
    with evaluation(head):
        axes = head(pooled.to("cpu", torch.get_default_dtype())).dim()
    return make(features.shape[1], math.prod(layout.shape)) if axes == 2 else head


def _try_loss(model: Shortcut, example: Any, labels: Tensor) -> None:
    """Compute the loss of a copy's predictions once, to refuse a loss that does not fit the labels."""
    twin = copy.deepcopy(model)
    with evaluation(twin):
        # Branches predict in training mode alone.
        twin.training = True
        args, kwargs = inputs_of(model.network, map_tensors(torch.clone, example))
        output = twin(*args, **kwargs)
        try:
            model.weighted_loss(output, labels.to(output.main.device), 1.0)
        except CALL_ERRORS as error:
            raise ValueError(
                f"{error}: this is the loss of the example, so pass labels=... that fit, or criterion=... for network "
                "and branches, which give logits"
            ) from error
