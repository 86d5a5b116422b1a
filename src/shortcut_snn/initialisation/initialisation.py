"""Initialise a deep network by measurement, so that every block passes on its input and its gradient.

A new network of blocks ``spike(f(x) + x)`` forgets its input after some ten blocks, since ``f(x)`` is as large as a
spike. Weights, architecture and neurons may stay: it is enough that the network starts elsewhere.

1. Blocks declare the norm before each neuron and what is added to it, or passes show it (see :mod:`.structure`).
2. A forward pass sets the norms, one after another, at the currents that the layers before already cause. The shift of
   a norm sets the firing rate, and without a norm the size of the weights does. A norm whose output is added to spikes
   gets the largest scale at which few spikes change. A layer without a skip path becomes the identity plus as little
   of its random weights.
3. The surrogates on the main path become flat, and backward passes set their heights until the gradient keeps
   its norm. A block's gain is linear in the height. Those inside branches become low: in training, the gradients of
   many branches would add up and explode. Neurons that pass on spikes pass no gradient to the previous time step.
4. In networks of 20 such blocks and more, the norms of these blocks are not trained.

Each step costs a few passes, whatever the depth. Relatives: SkipInit and Fixup for residual networks, Dirac
initialisation for plain ones, LSUV for measuring layer by layer; for spiking networks SpikeInit (ICML 2026), Micheli et
al. (arXiv 2410.00580) and IKUN (arXiv 2411.18250).
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .._utils.calls import check_is_module, eager, inputs_of, map_tensors, tensors_in, uncompiled
from .._utils.module_state import preserving_state, restored_on_error
from ..introspection.neurons import custom_neurons, find_neurons
from ..measurement import probe
from ..measurement.layers import Loss, chain, check_can_examine, trained_chain, without_dropout
from ..measurement.probe import LayerTally
from ..measurement.setup import Setup, wrapped_copy
from ..method import Shortcut
from ..method.targets import default_loss
from .norms import Norms
from .structure import Structure, declared_layers, matched_layers
from .surrogates import set_heights, set_shapes, set_surrogates

_BACKWARD_PASSES = 3
# Samples from which rates and gradients of a batch are those of another one.
_FEWEST = 16
Entries = dict[str, dict[str, float]]
"""By layer, entries of :class:`~.surrogates.NeuronSettings`."""


@dataclass(frozen=True, repr=False)
class Initialisation:
    """The settings and measurements of :func:`initialise`. ``str`` returns a summary."""

    norms: dict[str, tuple[float, float]]
    """Scale and shift by norm. The norm of a layer that copies its input has them per channel; these are the means."""
    surrogates: Entries
    """What :func:`set_surrogates` takes, to set them in another copy of the network."""
    skipped: dict[str, str]
    """By layer, the reason why it, or a part of it, was not set."""
    kept: float
    """Share of the input that the last layers keep (see ``measurement.layers.measure_kept``); NaN for one sample."""
    rates: tuple[float, float]
    """Lowest and highest firing rate of a layer."""
    gradients: tuple[float, float]
    """Lowest and highest norm of the gradient on the main path, over that at its last neuron."""
    weights: dict[str, float] = field(default_factory=dict)
    """By layer, the number that its weights were multiplied by."""
    samples: int = _FEWEST
    """Number of samples that were measured."""

    def __repr__(self) -> str:
        """Return what was set, what was reached, and what could not be set."""
        # One sample has no others to differ from.
        kept = "" if math.isnan(self.kept) else f"the last layers keep {self.kept:.0%} of the input, "
        lowest, highest = self.gradients
        # No neuron has a gradient if all layers before the last neuron are frozen.
        gradients = "" if math.isnan(lowest) else f", gradients {lowest:.2g} to {highest:.2g} times the last"
        lines = [
            f"initialised: {len(self.norms)} norms and {len(self.surrogates)} surrogates set; {kept}"
            f"firing rates are {self.rates[0]:.2g} to {self.rates[1]:.2g}{gradients}"
        ]
        if self.weights:
            smallest, largest = min(self.weights.values()), max(self.weights.values())
            lines.append(f"weights: those of {len(self.weights)} layers multiplied by {smallest:.3g} to {largest:.3g}")
        fixed = sum("fixed_norm" in entries for entries in self.surrogates.values())
        if self.samples < _FEWEST:
            lines.append(f"measured on {self.samples} samples: pass a batch of at least {_FEWEST} to measure reliably")
        lines += [f"not trained: {fixed} norms of blocks that pass on their input"] * bool(fixed)
        return "\n".join(lines + [f"not set: {name}: {reason}" for name, reason in self.skipped.items()])


def initialise(
    network: nn.Module,
    example: Any,
    labels: Any,
    loss: Loss = default_loss,
    *,
    spiking: type[nn.Module] | tuple[type[nn.Module], ...] = (),
) -> Initialisation:
    """Set the norms and surrogates of a new network so that every block passes on its input and its gradient.

    The scales and shifts of norms change, and the size of weights before and without norms. The weights of layers
    without a skip path become the identity plus a multiple of their values. Run it once, before the first step and
    before the optimizer is built. If it raises or is interrupted, nothing has changed. A ``state_dict`` has no
    surrogates: to resume, save those of the report too, and pass them to :func:`set_surrogates`.

    Args:
        network: a network with built-in neurons or those of a known library, or a wrapper of
            :func:`shortcut_snn.attach`. A third-party network is wrapped to find its layout, as in :func:`diagnose`.
        example: a batch of real data, at least 16 samples.
        labels: of the batch, for the loss.
        loss: takes the network's output, or the wrapper's, and the labels. See :func:`diagnose`.
        spiking: classes of custom neurons, whose first output is spikes.

    Returns:
        What was set, what could not be set, and what was reached on this batch.

    Raises:
        ValueError: there are no known neurons, a neuron serves several layers, all parameters are frozen, labels are
            not those of classes, or the network's layout cannot be inferred.

    Example:
        >>> import torch
        >>> from shortcut_snn import nets
        >>> network = nets.spiking_resnet20(10, 2, width=4)
        >>> report = initialise(network, torch.randn(16, 3, 8, 8), torch.arange(16) % 10)
        >>> bool(network.layer1[0].spike2.norm.weight[0] < 0.5), report.skipped
        (True, {})
    """
    network = uncompiled(network)
    check_is_module(network)
    device = next(nn.Module.parameters(network), torch.empty(0)).device.type
    with custom_neurons(spiking), eager(), torch.autocast(device, enabled=False):
        return _initialise(network, example, labels, loss)


def _initialise(network: nn.Module, example: Any, labels: Any, loss: Loss) -> Initialisation:
    target = network.network if isinstance(network, Shortcut) else network
    check_can_examine(target, [(example, labels)])
    samples = len(labels) if isinstance(labels, Tensor) and labels.dim() else _FEWEST
    if not samples:
        raise ValueError(f"the batch for initialise has no samples: pass at least {_FEWEST}")
    tensors = tensors_in(example)
    if not tensors:
        raise ValueError(f"the example, a {type(example).__name__}, has no tensors: pass torch.as_tensor(example)")
    if all(tensor.numel() and (tensor == tensor.flatten()[0]).all() for tensor in tensors):
        raise ValueError("the example has the same value everywhere, so nothing can be measured: pass real data")
    setup = wrapped_copy(network, (example, labels), loss)
    # A sum of rounded numbers does not show its parts.
    setup.model._apply(_in_single_precision)  # type: ignore[no-untyped-call]
    example = map_tensors(_in_single_precision, example)
    structure, norms, surrogates = _set(setup, setup.network, example, labels)
    layers = setup.examine([(example, labels)]).layers
    reports = {report.layer: report for report in chain(layers)}
    # Layers that only follow frozen ones have no gradient.
    trained = {report.layer: report.norm for report in trained_chain(layers)}
    on_path = [trained[name] for name in structure.main_path if name in trained]
    gradients = on_path or list(trained.values()) or [math.nan]
    rates = [report.rate for report in reports.values()]
    result = Initialisation(
        {name: _means(setup.network.get_submodule(name)) for name in norms.names},
        surrogates,
        structure.skipped | structure.frozen,
        # The last neuron may be in a branch, and its spikes added to what is kept.
        max(report.kept for report in list(reports.values())[-2:]),
        (min(rates), max(rates)),
        (min(gradients) / gradients[-1], max(gradients) / gradients[-1]) if gradients[-1] else (math.nan, math.nan),
        norms.factors,
        samples,
    )
    # Layers that share a weight have a name each for it.
    measured = setup.network.named_parameters(remove_duplicate=False)
    changed = {name: value for name, value in measured if name in norms.changed}
    with restored_on_error(network):
        with torch.no_grad():
            for name, parameter in target.named_parameters(remove_duplicate=False):
                if name in changed:
                    parameter.copy_(changed[name])
        set_surrogates(target, surrogates)
        if isinstance(network, Shortcut):
            network.initialisation = result
    return result


def _in_single_precision(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _means(norm: Any) -> tuple[float, float]:
    return norm.weight.mean().item(), 0.0 if norm.bias is None else norm.bias.mean().item()


def _set(setup: Setup, network: nn.Module, example: Any, labels: Any) -> tuple[Structure, Norms, Entries]:
    """Set the norms of a network, then the surrogates; return the settings of its layers as plain entries."""
    args, kwargs = inputs_of(network, example)

    def run() -> Any:
        # What a layer adds to its input would not be the output of its norm.
        with without_dropout(setup.model):
            return setup.model(*args, **kwargs)

    def backward() -> dict[str, LayerTally]:
        with preserving_state(setup.model), probe(network) as tallies:
            setup.loss(run(), labels).backward()  # type: ignore[no-untyped-call]
        return tallies

    # Output neurons only integrate: their spikes do not reach the loss.
    integrators = {name for name, tally in backward().items() if tally.needs_gradient and not tally.is_read}
    neurons = {name: neuron for name, neuron in find_neurons(network).items() if name not in integrators}
    with preserving_state(setup.model):
        called = declared_layers(network, run) or matched_layers(network, run)
    layers = {layer.name: layer for layer in called if layer.name in neurons}
    structure = Structure(network, neurons, layers)
    norms = Norms(network, structure)
    with preserving_state(setup.model), torch.no_grad():
        norms.set(run)
    settings = set_shapes(structure, norms.multiply)
    for _ in range(_BACKWARD_PASSES):
        set_heights(structure, settings, {name: tally.norm for name, tally in backward().items()})
    return structure, norms, {name: layer.to_entries() for name, layer in settings.items()}
