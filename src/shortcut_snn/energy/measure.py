"""Measure the energy of an inference: run inputs, count the operations, price them."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from functools import partial
from math import inf, prod
from typing import Any

import torch
from torch import Tensor, nn

from .._utils.calls import Reset, call_on, check_is_module, dry_copy, primary, uncompiled
from .._utils.module_state import hooked
from .._utils.random_state import preserve_random_state
from ..introspection.adapters import find_adapters
from ..introspection.inference import describe, with_remedy
from ..introspection.neurons import (
    custom_neurons,
    find_neurons,
    find_sequence_neurons,
    single_step_neurons,
    steps_first,
)
from ..method import Layout, Shortcut
from ..nets import SpikingNetwork
from .counting import WEIGHT_LAYERS, LayerOperations, count_operations
from .report import WORD_BITS, EnergyReport, LayerEnergy

# Modules whose weights are looked up instead of multiplied with, or are folded into the layer before.
_FREE = (nn.Embedding, nn.EmbeddingBag, nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def measure_energy(
    network: nn.Module,
    inputs: Sequence[Any],
    time_steps: int | None = None,
    *,
    labels: Tensor | None = None,
    reset: Reset | None = None,
    spiking: type[nn.Module] | tuple[type[nn.Module], ...] = (),
) -> EnergyReport:
    """Return the energy of a network for one input sample, the mean over the samples of some batches.

    A copy of the network runs in eval mode, reset before each batch. For a third-party network, the time loop, the
    batch axis and the reset are inferred as in :func:`shortcut_snn.attach`. Operations are counted as
    :mod:`shortcut_snn.energy.counting` describes and priced as :mod:`shortcut_snn.energy.report` describes. A warning
    names the weights that are not counted.

    Args:
        network: a network with convolutions or linear layers, or a wrapper of :func:`shortcut_snn.attach`. Pass the
            wrapper to specify what cannot be inferred.
        inputs: batches, as the network or the wrapper takes them.
        time_steps: T; inferred by default. A network of one time step per call is called T times on a static batch.
        labels: labels of the first batch; their number distinguishes samples from time steps.
        reset: resets the neurons; inferred by default.
        spiking: classes of custom neurons, to count their membrane updates.

    Raises:
        ValueError: there are no inputs or no such layers, or a property of the network cannot be inferred.

    Example:
        >>> from torch import nn
        >>> from shortcut_snn.neurons import IF
        >>> network = nn.Sequential(nn.Flatten(2), IF(), nn.Linear(12, 10))
        >>> report = measure_energy(network, [torch.full((4, 2, 3, 2, 2), 0.5)], time_steps=4)
        >>> report.layers[0].acs  # each of 12 neurons fires once in 4 steps, at the third
        120.0
        >>> f"{report.energy:.1f} pJ, {report.relu_energy:.1f} pJ with ReLUs"
        '108.0 pJ, 552.0 pJ with ReLUs'
        >>> f"with memory {report.total_energy:.1f} pJ, on {report.bits} bits {report.quantised_energy:.1f} pJ"
        'with memory 2565.6 pJ, on 3 bits 708.8 pJ'
        >>> f"it fires at {report.firing_rate:.0%}; break-even at {report.break_even_rate:.1%}"
        'it fires at 25%; break-even at 1.0%'
    """
    check_is_module(network)
    network = uncompiled(network)
    inner = network.network if isinstance(network, Shortcut) else network
    if not isinstance(inputs, Sequence):
        raise ValueError(f"inputs must be a list of batches, got a {type(inputs).__name__}: pass [inputs] for one")
    if len({primary(batch).dim() for batch in inputs}) > 1:
        raise ValueError("inputs must have the same number of axes: pass [inputs], and labels=... for labels")
    if not any(primary(batch).numel() for batch in inputs):
        raise ValueError("inputs is empty: pass at least one batch with a sample")
    if not any(isinstance(module, WEIGHT_LAYERS) for module in nn.Module.modules(inner)):
        raise ValueError(f"{type(inner).__name__} has no convolutions or linear layers to count operations of")
    with custom_neurons(spiking):
        layout = _find_layout(network, inner, inputs[0], time_steps, None if labels is None else len(labels), reset)
        layers, weights, products = _count_batches(inner, layout, inputs)
    named = [name for name in _uncounted_weights(inner, layers) if name not in weights]
    unnamed = {text for name, text in products.items() if name not in named}
    receives_spikes = any(layer.acs > layer.macs for layer in layers[1:])
    if receives_spikes and not any(layer.updates for layer in layers):
        unnamed.add("membrane updates (no neuron is of a known library: name its class in spiking=)")
    uncounted = (*named, *sorted(unnamed))
    if uncounted:
        warnings.warn(
            f"not counted in the energy of {type(inner).__name__}: {', '.join(uncounted)}. Only convolutions, linear "
            "layers that are called as modules, and matmul, mm, bmm and attention are counted.",
            stacklevel=2,
        )
    return EnergyReport(tuple(layers), uncounted)


def _find_layout(
    network: nn.Module, inner: nn.Module, example: Any, time_steps: int | None, samples: int | None, reset: Reset | None
) -> Layout:
    """Return how the network inside a wrapper is called, with the axis of the samples."""
    if isinstance(inner, SpikingNetwork) and not find_adapters(inner):
        # It takes images, or frames [T, N, C, H, W].
        layout = replace(inner.layout(), batch_axis=1 if primary(example).dim() == 5 else 0)
    elif isinstance(network, Shortcut) and network.layout.batch_axis is not None:
        layout = network.layout
    else:
        layout = _infer_layout(inner, example, time_steps, samples, reset or "auto")
    return replace(layout, reset=reset or layout.reset, time_steps=time_steps or layout.time_steps)


def _infer_layout(
    network: nn.Module, example: Any, time_steps: int | None, samples: int | None, reset: Reset | str
) -> Layout:
    loops: list[Any] = ["auto"]
    # An axis of T elements may be that of time. Without one, the batch is static.
    if time_steps == 1 or (time_steps is not None and time_steps not in primary(example).shape[:2]):
        loops.append("network" if time_steps == 1 else time_steps)
    for loop in loops:
        try:
            return describe(network, example, loop=loop, reset=reset, samples=samples)
        except ValueError as error:
            refusal = error
    raise with_remedy(refusal) from refusal


def _count_batches(
    inner: nn.Module, layout: Layout, inputs: Sequence[Any]
) -> tuple[list[LayerEnergy], set[str], dict[str, str]]:
    """Return each layer's means per sample, the parameters in counted products, and the uncounted products."""
    network = dry_copy(inner, layout.reset)
    batches: dict[str, list[LayerEnergy]] = {}
    weights: set[str] = set()
    uncounted: dict[str, str] = {}
    with preserve_random_state(), torch.no_grad():
        if layout.time_steps is None:
            layout = replace(layout, time_steps=_time_steps_of_neurons(network, layout, inputs[0]))
        for batch in inputs:
            with count_operations(network) as operations:
                _run(network, layout, batch)
            weights |= operations.weights
            uncounted |= operations.uncounted
            for name, layer in operations.layers.items():
                batches.setdefault(name, []).append(_energy_of_batch(name, layer, layout, batch))
    samples = sum(_samples(layout, batch) for batch in inputs)
    return [_mean(layers, samples) for layers in batches.values()], weights, uncounted


def _samples(layout: Layout, batch: Any) -> int:
    assert layout.batch_axis is not None
    return primary(batch).shape[layout.batch_axis]


def _energy_of_batch(name: str, layer: LayerOperations, layout: Layout, batch: Any) -> LayerEnergy:
    """Return the operations of a layer for a whole batch, with the bits of its input in the quantised network."""
    steps = layout.time_steps
    passes = min(_passes_per_sample(layer, layout, batch), steps or inf)
    # If any input is numbers, all inputs of the batch are. Otherwise the result would depend on whether the layer is
    # called once a batch or once a time step.
    numbers = layer.has_numbers
    macs = layer.dense if numbers else layer.macs
    # The bit length is ceil(log2(max_count + 1)): the counts run from 0 to max_count.
    max_count = (steps or 1) * layer.max_spikes
    return LayerEnergy(
        name,
        acs=0 if numbers else layer.acs,
        macs=macs,
        relu_macs=layer.dense / passes,
        synapses=layer.synapses / passes,
        inputs=layer.inputs,
        relu_inputs=layer.inputs / passes,
        spikes=0 if numbers else layer.spikes,
        updates=layer.updates,
        bits=WORD_BITS if macs else max_count.bit_length(),
    )


def _mean(batches: Sequence[LayerEnergy], samples: int) -> LayerEnergy:
    """Return the operations of a layer for one sample."""
    counters = [field.name for field in fields(LayerEnergy) if field.name not in ("layer", "bits")]
    means = {name: sum(getattr(batch, name) for batch in batches) / samples for name in counters}
    return LayerEnergy(batches[0].layer, bits=max(batch.bits for batch in batches), **means)


def _run(network: nn.Module, layout: Layout, batch: Any) -> None:
    if layout.reset is not None:
        layout.reset(network)
    call_on(network, layout.run, batch)


def _time_steps_of_neurons(network: nn.Module, layout: Layout, batch: Any) -> int | None:
    """Return T of a network with an inner time loop, as its neurons see it; None if it has no known neurons."""
    steps: dict[str, int] = {}
    run = partial(_run, network, layout)
    find_sequence_neurons(network, run, _samples(layout, batch), layout, batch)
    stepwise_neurons, read_spikes = single_step_neurons(network), steps_first(network)

    def count_steps(name: str, module: nn.Module, args: Any, output: Any) -> None:
        steps[name] = steps.get(name, 0) + 1 if name in stepwise_neurons else len(read_spikes(name, module, output))

    with hooked(find_neurons(network), count_steps):
        run(batch)
    return min(steps.values(), default=None)


def _passes_per_sample(layer: LayerOperations, layout: Layout, batch: Any) -> float:
    """Return how often a layer has seen each sample: once if it sees a static image or a mean over time.

    The leading sizes of its inputs hold samples, time and, if it has them, tokens: ``[N]``, ``[T * N]``, ``[T, N]`` or
    ``[N, T]``, and ``[N, tokens]`` and the like.
    """
    shape, samples, steps = primary(batch).shape, _samples(layout, batch), layout.time_steps or 1
    batch_first = layout.batch_axis == 0 and len(shape) in (3, 5) and shape[1] == steps
    # A layer that gets the whole sequence has time and samples in the order of the input.
    sequence = (samples, steps) if batch_first else (steps, samples)
    rows = 0
    for sizes, calls in layer.leading_sizes.items():
        # Further leading axes of a linear layer or a product are tokens, not samples.
        if layer.has_tokens and sizes[:2] == sequence:
            rows += calls * steps * samples
        elif layer.has_tokens and sizes[:1] in ((samples,), (steps * samples,)):
            rows += calls * sizes[0]
        else:
            rows += calls * prod(sizes)
    return max(rows / samples, 1.0)


def _uncounted_weights(network: nn.Module, layers: Iterable[LayerEnergy]) -> Iterator[str]:
    """Yield the parameters of two or more axes that belong to no counted layer."""
    prefixes = tuple(f"{layer.layer}." for layer in layers if layer.relu_macs)
    for name, module in nn.Module.named_modules(network):
        if isinstance(module, _FREE) or f"{name}.".startswith(prefixes) or (prefixes == (".",) and not name):
            continue
        for parameter, weight in module._parameters.items():
            if weight is not None and sum(size > 1 for size in weight.shape) > 1:
                yield f"{name}.{parameter}".lstrip(".")
