"""Examine every spiking layer on a few batches: firing rate, how much of the input is left, and the gradient."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from .._utils.calls import Reset, check_is_module, eager, inputs_of
from .._utils.module_state import hooked, preserving_state
from ..introspection.adapters import find_adapters, library_reset
from ..introspection.neurons import find_neurons, steps_first
from ..method.targets import default_loss
from .gradients import is_on_chain
from .probe import LayerTally, check_has_neurons, probe

NOISE = 0.1
"""Standard deviation of the noise over that of the input, where the input that is left is measured."""
# A layer is compared on at most this many samples and neurons, so that the memory of a deep network stays small.
_SAMPLES, _NEURONS = 64, 1024
# Neurons are taken at this stride, a prime, so that they lie in different channels and pixels.
_STRIDE = 7919
Batch = tuple[Any, Any]
"""Inputs and labels. Several inputs are a tuple or a dictionary of arguments."""
Loss = Callable[[Any, Tensor], Tensor]
"""Takes the output of a model and the labels."""


@dataclass(frozen=True)
class LayerReport:
    """Firing and gradient of one spiking layer on one batch."""

    layer: str
    rate: float
    """Spikes per neuron and time step."""
    silent: float
    """Share of neurons that never fired."""
    saturated: float
    """Share of neurons that fired at every time step for every sample."""
    weight_rms: float
    """Gradient RMS of the weights before the layer; NaN if there are none."""
    membrane_rms: float
    """Gradient RMS of the membrane potential, or of the spikes if the probe records those; NaN if none is needed."""
    norm: float
    """Norm of the same gradient over neurons, time steps and samples."""
    gain: float
    """``norm`` over that of the next deeper layer on the chain; NaN for the last one and in a residual's projection."""
    varying: float = math.nan
    """Share of neurons that fired differently for two samples."""
    kept: float = math.nan
    """Share of the input that is left (see :func:`measure_kept`), from 0 to 1; NaN if it was not measured."""


@dataclass(frozen=True)
class Examination:
    """Reports of all spiking layers by batch, in the order of the network."""

    batches: tuple[tuple[LayerReport, ...], ...]

    @property
    def layers(self) -> tuple[LayerReport, ...]:
        """The reports of the first batch."""
        return self.batches[0]

    @property
    def factors(self) -> list[float]:
        """The :func:`gradient_factor` of each batch."""
        return [gradient_factor(layers) for layers in self.batches]


def chain(layers: Sequence[LayerReport]) -> list[LayerReport]:
    """Return the layers from input to output, without those in residual projections."""
    return [layer for layer in layers if is_on_chain(layer.layer)]


def trained_chain(layers: Sequence[LayerReport]) -> list[LayerReport]:
    """Return the layers of the chain that need a gradient: not those that encode the input or follow frozen layers."""
    return [layer for layer in chain(layers) if layer.norm or not math.isnan(layer.membrane_rms)]


def gradient_factor(layers: Sequence[LayerReport]) -> float:
    """Return the gradient's norm at the first spiking layer over that at the last; NaN if the last has none."""
    trained = trained_chain(layers)
    if not trained or not trained[-1].norm:
        return math.nan
    return trained[0].norm / trained[-1].norm


def examine(
    model: nn.Module,
    batches: Sequence[Batch],
    loss: Loss = default_loss,
    *,
    network: nn.Module | None = None,
    reset: Reset | None = None,
) -> Examination:
    """Run batches forward and backward in training mode and report every spiking layer.

    A batch takes two more forward passes, which measure how much of the input is left. The model is left unchanged.

    Args:
        model: a network, or a wrapper of one.
        batches: pairs of inputs and labels.
        loss: takes the output of the model and the labels.
        network: the part of the model to report; all of it by default.
        reset: resets the neurons before and after each batch. By default, that of the library that they come from.

    Raises:
        ValueError: there are no batches or no known neurons, or a neuron serves several layers.

    Example:
        >>> import torch
        >>> from shortcut_snn import nets
        >>> network, batch = nets.spiking_resnet8(10, 2, width=4), (torch.rand(2, 3, 8, 8), torch.tensor([1, 2]))
        >>> [layer.layer for layer in examine(network, [batch]).layers][:2]
        ['stem.spike', 'layer1.0.spike1']
    """
    network = model if network is None else network
    check_can_examine(network, batches)
    reports, reset = [], reset or library_reset(find_adapters(model)) or (lambda model: None)
    for inputs, labels in batches:
        with eager(), preserving_state(model), probe(network) as tallies:
            reset(model)
            args, kwargs = inputs_of(network, inputs)
            loss(model(*args, **kwargs), labels).backward()  # type: ignore[no-untyped-call]
            reports.append(layer_reports(network, tallies))
            reset(model)
        with eager():
            kept = measure_kept(model, network, args, kwargs, reset)
        reports[-1] = tuple(replace(report, kept=kept.get(report.layer, math.nan)) for report in reports[-1])
    return Examination(tuple(reports))


def check_can_examine(network: nn.Module, batches: Sequence[Batch]) -> None:
    """Raise ``ValueError`` for batches that are not pairs, none, or a network without known neurons or all frozen."""
    check_is_module(network)
    has_pairs = isinstance(batches, Sequence) and all(isinstance(each, Sequence) and len(each) == 2 for each in batches)
    if not has_pairs or not batches:
        raise ValueError(
            "batches must be a list of at least one pair of inputs and labels: [(inputs, labels)], or "
            "[next(iter(loader))] of a loader"
        )
    check_has_neurons(network)
    if not any(parameter.requires_grad for parameter in nn.Module.parameters(network)):
        raise ValueError(f"all parameters of {type(network).__name__} are frozen: call requires_grad_(True) first")


@torch.no_grad()
def layer_reports(network: nn.Module, tallies: dict[str, LayerTally]) -> tuple[LayerReport, ...]:
    """Return the reports of the layers that a probe has recorded, from input to output, after a backward pass.

    Output neurons that only integrate, since their spikes do not reach the loss, are left out.
    """
    spiking = {name: tally for name, tally in tallies.items() if tally.is_read or not tally.needs_gradient}
    reports: list[LayerReport] = []
    deeper_norm = math.nan
    for name, tally in reversed((spiking or tallies).items()):
        norm, gain = tally.norm, math.nan
        silent, saturated, varying = tally.shares()
        if is_on_chain(name):
            gain = norm / deeper_norm if deeper_norm else math.nan
            deeper_norm = norm
        # In a loop over time, the layer before a later call may be the last one of the previous step.
        weight_rms = _weight_rms(network, tally.weight_names[0])
        membrane_rms = norm / max(tally.elements, 1) ** 0.5 if tally.needs_gradient else math.nan
        reports.append(LayerReport(name, tally.rate, silent, saturated, weight_rms, membrane_rms, norm, gain, varying))
    return tuple(reversed(reports))


def _weight_rms(network: nn.Module, name: str) -> float:
    weight = network.get_submodule(name).weight if name else None
    # Parametrised weights are computed, and have no gradient of their own.
    grad = weight.grad if isinstance(weight, nn.Parameter) else None
    return grad.float().square().mean().sqrt().item() if isinstance(grad, Tensor) else math.nan


def measure_kept(
    model: nn.Module, network: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], reset: Reset
) -> dict[str, float]:
    """Return the share of the input that each spiking layer keeps, from 0 to 1, by layer in the order of calls.

    It is the forward counterpart of the gradient, and needs no labels and no training. A copy of the batch gets noise
    of a tenth of its standard deviation. In each layer the squared distance between the firing rates of a sample and of
    its copy is divided by that between two samples. A layer that keeps the input maps the copy near the sample. A layer
    that has lost it tells a sample from its copy as it tells it from any other sample::

        kept = 1 - E |r(x) - r(copy of x)|^2 / E |r(x) - r(other x)|^2

    It is 0 as well where all samples look alike. Dropout is off. The result is empty for a batch of one sample, or
    without a floating-point input, which cannot get noise.
    """
    generator = torch.Generator().manual_seed(0)
    can_perturb = False

    def perturb(x: Tensor) -> Tensor:
        nonlocal can_perturb
        if not x.is_floating_point() or x.numel() < 2:
            return x
        can_perturb = True
        noise = torch.randn(x.shape, generator=generator, device="cpu").to(x.device, x.dtype)
        return x + NOISE * x.std() * noise

    copied_args, copied_kwargs = tree_map_only(Tensor, perturb, (tuple(args), dict(kwargs)))
    if not can_perturb:
        return {}
    first = _firing_rates(model, network, args, kwargs, reset)
    second = _firing_rates(model, network, copied_args, copied_kwargs, reset)
    return {
        name: _kept(rates, second[name])
        for name, rates in first.items()
        if len(rates) > 1 and name in second and second[name].shape == rates.shape
    }


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Turn off dropout for a block, of modules and of functions; :func:`.preserving_state` restores the modules."""
    for module in nn.Module.modules(model):
        if "drop" in type(module).__name__.lower():
            module.eval()
    with _WithoutDropout():
        yield


class _WithoutDropout(TorchFunctionMode):
    """Lets ``F.dropout`` and its like return their input."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__module__", "") == functional.__name__ and "dropout" in function.__name__:
            return args[0] if args else kwargs["input"]
        return function(*args, **(kwargs or {}))


def _firing_rates(
    model: nn.Module, network: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], reset: Reset
) -> dict[str, Tensor]:
    """Return the spikes of some neurons of each layer, summed over time, ``[N, neurons]``."""
    rates: dict[str, Tensor] = {}
    read_spikes = steps_first(network)

    def add(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        spikes = read_spikes(name, module, output).sum(0)[:_SAMPLES].flatten(1).float()
        if spikes.shape[1] > _NEURONS:
            spikes = spikes[:, torch.arange(_NEURONS, device=spikes.device) * _STRIDE % spikes.shape[1]]
        before = rates.get(name)
        # Of a module that serves layers of several shapes, the first is compared.
        if before is None or before.shape == spikes.shape:
            rates[name] = spikes if before is None else before + spikes

    # Dropout would tell samples apart where the input is lost.
    with preserving_state(model), torch.no_grad(), hooked(find_neurons(network), add), without_dropout(model):
        reset(model)
        model(*args, **kwargs)
        reset(model)
    return rates


def _kept(rates: Tensor, copied: Tensor) -> float:
    near = (rates - copied).square().sum()
    far = (rates - rates.roll(1, 0)).square().sum()
    return max(0.0, float(1 - near / far)) if far > 0 else 0.0
