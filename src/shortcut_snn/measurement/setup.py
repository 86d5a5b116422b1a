"""Wrap a copy of a network, so that it can be run, reset and read while it is measured."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .._utils.calls import Reset, copy_network, inputs_of
from .._utils.module_state import preserving_state
from ..introspection import introspect
from ..introspection.adapters import find_adapters
from ..introspection.inference import describe, with_remedy
from ..introspection.neurons import find_neurons, find_sequence_neurons
from ..method import Layout, Shortcut
from ..method.targets import default_loss
from ..nets import SpikingNetwork
from .layers import Batch, Examination, Loss, examine


@dataclass(frozen=True)
class Setup:
    """A wrapped network and a loss of the wrapper's output, both ready to be examined."""

    model: Shortcut
    loss: Loss

    @property
    def network(self) -> nn.Module:
        """The network inside the wrapper, whose layers are examined."""
        return self.model.network

    def examine(self, batches: Sequence[Batch]) -> Examination:
        """Return the reports of the network's layers."""
        return examine(self.model, batches, self.loss, network=self.network)


def wrapped_copy(network: nn.Module, batch: Batch, loss: Loss, reset: Reset | None = None) -> Setup:
    """Return a copy of a network in a wrapper, or of a wrapper, and the loss of the wrapper's output."""
    if isinstance(network, Shortcut):
        model = copy.deepcopy(network)
        if loss is default_loss:
            if model.method is None and (model.layout.criterion or model.layout.step_axis is not None):
                model.method = "vanilla"
            loss = model.main_loss if model.method is not None else _loss_of_wrapper(loss)
        setup = Setup(model, loss)
    else:
        setup = Setup(_wrap(network, batch, loss, reset), _loss_of_wrapper(loss))

    def run(inputs: Any) -> None:
        args, kwargs = inputs_of(setup.network, inputs)
        setup.model.reset()
        setup.model(*args, **kwargs)

    samples = len(batch[1]) if isinstance(batch[1], Tensor) and batch[1].dim() else 0
    with preserving_state(setup.model), torch.no_grad():
        find_sequence_neurons(setup.network, run, samples, setup.model.layout, batch[0])
    return setup


def _loss_of_wrapper(loss: Loss) -> Loss:
    """Turn a loss of a network's output into a loss of its wrapper's output."""
    return lambda output, labels: loss(output.main, labels)


def _wrap(network: nn.Module, batch: Batch, loss: Loss, reset: Reset | None) -> Shortcut:
    """Return a copy of a network in a wrapper without branches."""
    if isinstance(network, SpikingNetwork) and not find_adapters(network):
        return Shortcut(copy.deepcopy(network), replace(network.layout(), reset=reset))
    example, labels = batch
    samples = len(labels) if isinstance(labels, Tensor) and labels.dim() else None

    def infer_layout(copied: nn.Module) -> Layout:
        options: Any = {"reset": reset or "auto", "samples": samples}
        if loss is default_loss:
            targets = labels if isinstance(labels, Tensor) else None
            return introspect(copied, example, taps=[], labels=targets, readout="mean", **options)
        # The logits are the business of the loss.
        return describe(copied, example, **options)

    try:
        try:
            layout = infer_layout(copy_network(network))
        except ValueError:
            layout = infer_layout(_with_low_thresholds(network))
    except ValueError as error:
        raise with_remedy(error) from error
    return Shortcut(copy_network(network), layout)


def _with_low_thresholds(network: nn.Module) -> nn.Module:
    """Return a copy whose neurons fire: in a silent network, nothing tells where the samples lie."""
    copied = copy_network(network)
    for neuron in find_neurons(copied).values():
        for name in ("threshold", "v_threshold"):
            threshold = getattr(neuron, name, None)
            if isinstance(threshold, Tensor) and not isinstance(threshold, nn.Parameter):
                setattr(neuron, name, torch.ones_like(threshold))
            elif isinstance(threshold, float):
                setattr(neuron, name, 1.0)
    return copied
