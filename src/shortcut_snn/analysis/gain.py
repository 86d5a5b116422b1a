"""By how much one layer multiplies the gradient, from what its neurons do forward (derived in docs/diagnosis.md)."""

from typing import Any

import torch
from torch import Tensor, nn

from ..neurons import Neuron
from .probe import neurons


@torch.no_grad()
def membranes(neuron: Neuron, current: Tensor) -> Tensor:
    """Return the membrane potentials before the reset, ``[T, N, ...]``, for a current of the same shape."""
    decay, out, u = neuron.decay, torch.empty_like(current), torch.zeros_like(current[0])
    for t in range(current.shape[0]):
        out[t] = decay * u + current[t]
        fired = out[t] > neuron.threshold
        u = out[t] - neuron.threshold * fired if neuron.reset == "soft" else out[t].masked_fill(fired, 0.0)
    return out


@torch.no_grad()
def predicted_gain(neuron: Neuron, current: Tensor) -> float:
    """Return ``sqrt(E[surrogate^2] / Var[spikes])`` of a neuron layer.

    This is the factor from the membrane potential of the layer behind to its own where a convolution and a batch norm
    lie between the two and nothing else: no residual, no time step before, no gradient through a reset.

    Args:
        neuron: the layer.
        current: its input ``[T, N, C, ...]``.
    """
    u = membranes(neuron, current.float())
    spikes = (u > neuron.threshold).float()
    slope = neuron.surrogate(u - neuron.threshold)
    # The batch norm behind takes the mean of each channel away.
    variance = spikes.var([0, 1, *range(3, spikes.dim())], correction=0).mean()
    return (slope.square().mean() / variance).sqrt().item()


def predicted_gains(network: nn.Module, images: Tensor) -> dict[str, float]:
    """Return the predicted gain of every layer on a batch, whose statistics are used where the network trains."""
    gains: dict[str, float] = {}

    def look(name: str) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            gains[name] = predicted_gain(module, args[0].detach())

        return hook

    layers = {name: module for name, module in neurons(network).items() if isinstance(module, Neuron)}
    handles = [neuron.register_forward_hook(look(name)) for name, neuron in layers.items()]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return gains
