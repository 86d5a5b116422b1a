"""Values of predictions that can be read in several ways: potentials, spikes, rates and probabilities."""

import math

import torch
from torch import Tensor, nn

from ..method import Readout
from ..method.taps import batch_of
from .adapters import adapters_of
from .layers import is_layer
from .neurons import spiking_layers
from .outputs import indexed, is_spikes
from .predictions import Prediction, Question


def question_values(question: Question, prediction: Prediction, tensor: Tensor) -> str:
    """Return the question how the values of a prediction are read; empty if there is one way."""
    how, labels = prediction.readout, question.labels
    if not isinstance(how, Readout) or how.steps is None or prediction.step_axis is not None:
        return ""
    name, classes = indexed(how.path), prediction.num_classes
    keep = f"lambda output: {name}" if how.path else "None"
    over_time = how.time_axis is not None and how.unfolded(question.output).shape[how.time_axis] > 1
    if tensor.min() < 0 or tensor.max() > 1:
        if not over_time and question.labels_are_classes and classes > 1 and torch.equal(tensor, tensor.round()):
            return (
                f"{name} holds integers: pass readout={keep} for spike counts, of which the greatest wins, or "
                f"readout=lambda output: -{name} for the times of spikes, of which the earliest wins"
            )
        if not over_time or _is_of_layer(question, how):
            return ""
        return (
            f"{name}, of shape {tuple(how.find(question.output).shape)}, holds real values of every time step, such as "
            "membrane potentials: pass readout='mean', 'last' (the last step), 'max' (the maximum over time), 'sum', "
            "or a function of the output"
        )
    # Rates or probabilities as targets are compared with such. One output for two classes has a loss of its own.
    if labels is None or (question.labels_are_classes and classes == 1):
        return ""
    if labels.is_floating_point() and not is_spikes(labels) and labels.min() >= 0 and labels.max() <= 1:
        return ""
    limit = ""
    if question.labels_are_classes:
        least = math.log(1 + (classes - 1) / math.e)
        limit = f", where a cross-entropy of {classes} classes cannot fall below {least:.2f}"
    if over_time:
        return (
            f"{name} holds spikes or the like of every time step, with rates between 0 and 1{limit}: pass "
            "readout='sum' for spike counts, 'mean' for rates, or a function of the output, such as potentials or "
            "the time of the first spike"
        )
    log = f"{name}.log()" if classes > 1 and bool(((tensor.sum(1) - 1).abs() < 1e-3).all()) else ""
    return (
        f"{name} lies between 0 and 1{limit}: pass readout=lambda output: "
        f"{log or f'torch.logit({name}, 1e-6)'} for logits, as after a {'softmax' if log else 'sigmoid'}; 10 * {name}, "
        f"say, for firing rates; or readout={keep} to keep it"
    )


def _is_of_layer(question: Question, how: Readout) -> bool:
    """Return whether predictions of every step are what a layer gives, which some libraries average over time."""
    probe = question.samples.probe
    averages = [adapter.averages_currents for adapter in adapters_of(probe.initial)]
    if not (averages or spiking_layers(probe.initial)) or not all(averages):
        return False
    with batch_of(question.samples.length):
        steps = how.unfolded(question.output)
    # A layer is called for each step, or once for all, in the order of its own axes.
    forms = (steps.flatten(), steps.movedim(how.time_axis or 0, 0).flatten(), steps.transpose(0, 1).flatten())
    for name, module in nn.Module.named_modules(probe.initial):
        if is_layer(module) and name in probe.base.outputs:
            calls = [call.flatten() for call in question.samples.features(name) if isinstance(call, Tensor)]
            given = torch.cat(calls) if calls else steps.new_empty(0)
            if any(torch.equal(given, form) for form in forms):
                return True
    return False
