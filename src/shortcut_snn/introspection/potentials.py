"""Membrane potentials among a network's outputs, told from spikes and from the effect of one time step."""

from typing import Any

import torch
from torch import Tensor, nn

from .._utils.calls import map_tensors
from ..method import Readout, batch_of, tensor_in
from .adapters import adapters_of
from .gradient_paths import carries_state
from .infer_batch_axis import Samples
from .layers import channel_axis_of, is_layer, with_first
from .perturb import BatchAxis, changed_indices


def without_convention(samples: Samples, readout: Readout, labels: Tensor | None) -> str:
    """Return, in words, what the logits of every time step are, if no convention says how they are read over time.

    That is so for membrane potentials, for spikes whose rates cannot be the labels, and in some libraries for the last
    layer's output. Labels beyond 0 to 1 may be times of spikes. To find potentials, all layers repeat their outputs of
    the base pass, except at the first time step. The network's output then changes at this step alone, unless a neuron
    after the last layer keeps the change in its state.
    """
    probe, axis = samples.probe, readout.time_axis
    if axis is None:
        return ""
    with batch_of(samples.length):
        before = readout.unfolded(probe.base.output)
        if labels is not None and labels.is_floating_point() and bool(((before == 0) | (before == 1)).all()):
            return "spikes" if bool(((labels < 0) | (labels > 1)).any()) else ""
        if before.shape[axis] < 2 or _are_counts(before):
            return ""
        if not all(adapter.averages_currents for adapter in adapters_of(probe.initial)):
            return "real values"
        after = readout.unfolded(probe.observe(edit=_FirstStep(samples, before.shape[axis])).output)
    changed = changed_indices(before, after)
    # Where matrices take the place of layers, nothing changes.
    is_state = carries_state(readout.find(probe.gradient_paths.output)) if changed is None else max(changed[axis]) > 0
    return "membrane potentials" if is_state and not _are_counts(after) else ""


def _are_counts(tensor: Tensor) -> bool:
    """Return whether all values are multiples of one, as spikes, their sums and their means over neurons are."""
    levels = torch.unique(tensor.detach().double())
    if len(levels) < 3:
        # Zeros and one other value, or a silent layer.
        return len(levels) < 2 or bool((levels == 0).any())
    quantum = levels.diff().min()
    multiples = levels / quantum
    return bool(((multiples - multiples.round()).abs() < 0.01).all()) and bool(multiples.abs().max() < 1e4)


class _FirstStep:
    """An edit by which every layer gives what it gave in the base pass, except for the first time step."""

    def __init__(self, samples: Samples, steps: int) -> None:
        self._samples, self._steps = samples, steps
        self._left = {name: list(calls) for name, calls in samples.probe.base.outputs.items()}
        self._first = set(self._left)

    def __call__(self, name: str, module: nn.Module, output: Any) -> Any:
        """Return the output of the base pass, changed far up and down at the first step; None for no layer."""
        if not is_layer(module) or tensor_in(output) is None or not self._left.get(name):
            return None
        replayed = map_tensors(torch.clone, self._left[name].pop(0))
        tensor = tensor_in(replayed)
        if tensor is None or name not in self._first:
            return replayed
        self._first.discard(name)
        selected = self._first_step(name, module, tensor)
        if selected is not None:
            far = 10 + 10 * tensor.float().abs().max().item()
            signs = 1 - 2 * (torch.arange(selected.numel(), device=tensor.device) % 2)
            selected += (far * signs).view(selected.shape).to(tensor.dtype)
        return with_first(replayed, tensor)

    def _first_step(self, name: str, module: nn.Module, tensor: Tensor) -> Tensor | None:
        """Return the part of a layer's output at the first time step, None if it has no time."""
        event, length = self._samples.probe.base.events[name], self._samples.length
        if event.calls > 1:
            return tensor
        found = next(iter(self._samples.axes_of_module(name) or []), BatchAxis(1 - self._samples.axis))
        if found.merged:
            return tensor[:length] if found.merged == "time" else tensor[:: len(tensor) // length]
        channels = channel_axis_of(module, tensor.shape)
        taken = {found.axis, None if channels is None else channels % tensor.dim()}
        axes = [axis for axis, size in enumerate(tensor.shape) if size == self._steps and axis not in taken]
        return tensor.select(axes[0], 0) if axes else None
