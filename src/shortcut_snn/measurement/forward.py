"""Measure how much of the input every spiking layer keeps: the forward counterpart of the gradient.

A copy of the batch gets noise of a tenth of its standard deviation. In each layer the squared distance between the
firing rates of a sample and of its copy is divided by that between two samples. A layer that keeps the input maps the
copy near the sample. A layer that has lost it tells a sample from its copy as it tells it from any other sample::

    kept = 1 - E |r(x) - r(copy of x)|^2 / E |r(x) - r(other x)|^2

The measure needs no labels and no training: two forward passes. It is 0 as well where all samples look alike.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from .._utils.calls import Reset
from .._utils.module_state import hooked, preserving_state
from ..introspection.neurons import find_neurons, single_step_neurons
from ..method.taps import first_tensor

NOISE = 0.1
"""Standard deviation of the noise over that of the input."""
# A layer is compared on at most this many samples and neurons, so that the memory of a deep network stays small.
_SAMPLES, _NEURONS = 64, 1024
# Neurons are taken at this stride, a prime, so that they lie in different channels and pixels.
_STRIDE = 7919


def measure_kept(
    model: nn.Module, network: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], reset: Reset
) -> dict[str, float]:
    """Return the share of the input that each spiking layer keeps, from 0 to 1, by layer in the order of calls.

    The result is empty for a batch of one sample, or without a floating-point input, which cannot get noise.
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


def _firing_rates(
    model: nn.Module, network: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], reset: Reset
) -> dict[str, Tensor]:
    """Return the spikes of some neurons of each layer, summed over time, ``[N, neurons]``."""
    rates: dict[str, Tensor] = {}
    single_step = single_step_neurons(network)

    def add(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        spikes = first_tensor(output)
        spikes = (spikes if name in single_step else spikes.sum(0))[:_SAMPLES].flatten(1).float()
        if spikes.shape[1] > _NEURONS:
            spikes = spikes[:, torch.arange(_NEURONS, device=spikes.device) * _STRIDE % spikes.shape[1]]
        before = rates.get(name)
        # Of a module that serves layers of several shapes, the first is compared.
        if before is None or before.shape == spikes.shape:
            rates[name] = spikes if before is None else before + spikes

    with preserving_state(model), torch.no_grad(), hooked(find_neurons(network), add):
        reset(model)
        model(*args, **kwargs)
        reset(model)
    return rates


def _kept(rates: Tensor, copied: Tensor) -> float:
    near = (rates - copied).square().sum()
    far = (rates - rates.roll(1, 0)).square().sum()
    return max(0.0, float(1 - near / far)) if far > 0 else 0.0
