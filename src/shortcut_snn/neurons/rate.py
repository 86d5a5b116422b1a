"""Rate-based backpropagation: spikes forward over T steps, gradients backward through one step of firing rates.

Yu et al., "Advancing Training Efficiency of Deep Spiking Neural Networks through Rate-based Backpropagation", NeurIPS
2024, arXiv 2410.11488. This is the multi-step mode of the authors' code (``model/layer.py`` and ``util/util.py`` of
github.com/Tab-ct/rate-based-backpropagation). The network runs twice:

1. Over all time steps, without a graph. Each neuron stores its firing rate r, the mean of its spikes. It also stores
   the derivative of r with respect to a current c that is added at every step, with surrogates for ds/du::

       dr/dc = (1 / T) * sum over t of surrogate(u_pre[t] - threshold) * k[t]
       k[1] = 1;  k[t + 1] = 1 + k[t] * d u_pre[t + 1] / d u_pre[t]

   Each batch norm stores its mean and variance over time and batch.
2. On the mean input, as a network without time. A neuron outputs r and propagates ``dL/dc = dL/dr * dr/dc``. A batch
   norm uses the stored statistics, and sends gradients through them as usual.

The backward pass therefore costs one time step, for any T. The authors also divide the gradient of the loss by T, which
is left out here.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .modules import PLIF, Neuron
from .operators.registration import first_order

_Norm = nn.modules.batchnorm._BatchNorm
_SUPPORTED_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class _RateOfCurrent(torch.autograd.Function):
    """The firing rate of a neuron as a function of its mean current, with stored value and derivative."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, rate: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return rate.to(current.dtype, copy=True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return *first_order((grad.detach() * slope.to(grad.dtype),), grad), None, None


class _NormaliseWithStatistics(torch.autograd.Function):
    """Batch normalisation with stored statistics, with the gradient of a norm that computed them from its input."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(var + eps))
        ctx.eps = eps
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse = ctx.saved_tensors
        needed = list(ctx.needs_input_grad[:3])
        with torch.no_grad():
            grads = torch.ops.aten.native_batch_norm_backward(
                grad, x, weight, None, None, mean, inverse, True, ctx.eps, needed
            )
        results = tuple(g if need else None for g, need in zip(grads, needed, strict=True))
        return *first_order(results, grad, x, weight), None, None, None


class RatePasses:
    """The two passes of rate-based backpropagation through a network.

    Args:
        network: a network whose neurons are :class:`~.modules.Neuron`, and whose norms are batch norms.

    Example:
        >>> from shortcut_snn.neurons import LIF
        >>> network, x = nn.Sequential(nn.Linear(3, 5), LIF()), torch.rand(4, 2, 3)
        >>> passes = RatePasses(network)
        >>> with passes.spiking():
        ...     spikes = network(x)
        >>> with passes.averages():
        ...     network(x.mean(0, keepdim=True)).sum().backward()
        >>> network[0].weight.grad.shape
        torch.Size([5, 3])
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        if not any(isinstance(module, Neuron) for module in network.modules()):
            raise ValueError(
                f"{type(network).__name__} has no neurons of shortcut_snn, which gradient rate requires: use bptt"
            )
        for module in network.modules():
            if isinstance(module, Neuron) and any(True for _ in module.parameters()):
                learned = "a learned decay" if isinstance(module, PLIF) else f"parameters of {type(module).__name__}"
                raise ValueError(f"rate-based backpropagation cannot train {learned}: use lif or if neurons")
        self._rates: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self._statistics: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    @contextmanager
    def spiking(self) -> Iterator[None]:
        """Run the first pass within this block."""
        self._rates, self._statistics = {}, {}
        with torch.no_grad(), _replaced_forwards(self.network, self._fire, self._measure):
            yield
        # Autocast caches converted weights, and those of a pass without a graph have no gradient.
        torch.clear_autocast_cache()

    @contextmanager
    def averages(self) -> Iterator[None]:
        """Run the second pass within this block, on an input averaged over time."""
        steps = vars(self.network).get("time_steps")
        try:
            if steps is not None:
                self.network.time_steps = 1  # type: ignore[assignment]
            with _replaced_forwards(self.network, self._rate, self._normalise):
                yield
        finally:
            if steps is not None:
                self.network.time_steps = steps
            self._rates, self._statistics = {}, {}

    def _fire(self, neuron: Neuron, current: Tensor) -> Tensor:
        _check_first_call(neuron, self._rates)
        with torch.enable_grad():
            leaf = current.detach().requires_grad_()
            spikes = _class_forward(neuron, leaf)
            # The gradient of the number of spikes by the current of each step; summed over steps it is T * dr/dc.
            (slopes,) = torch.autograd.grad(spikes, leaf, torch.ones_like(spikes))
        spikes = spikes.detach()
        self._rates[neuron] = _mean(spikes), _mean(slopes)
        return spikes

    def _measure(self, norm: _Norm, x: Tensor) -> Tensor:
        _check_first_call(norm, self._statistics)
        if type(norm) not in _SUPPORTED_NORMS:
            supported = ", ".join(kind.__name__ for kind in _SUPPORTED_NORMS)
            raise ValueError(f"rate-based backpropagation supports {supported}, got {type(norm).__name__}")
        if _uses_batch_statistics(norm):
            axes = [axis for axis in range(x.dim()) if axis != 1]
            var, mean = torch.var_mean(x.float(), axes, correction=0)
            self._statistics[norm] = mean, var
        return _class_forward(norm, x)

    def _rate(self, neuron: Neuron, current: Tensor) -> Tensor:
        out: Tensor = _RateOfCurrent.apply(current, *self._rates[neuron])  # type: ignore[no-untyped-call]
        return out

    def _normalise(self, norm: _Norm, x: Tensor) -> Tensor:
        if not _uses_batch_statistics(norm):
            return _class_forward(norm, x)
        out: Tensor = _NormaliseWithStatistics.apply(  # type: ignore[no-untyped-call]
            x, norm.weight, norm.bias, *self._statistics[norm], norm.eps
        )
        return out


def _check_first_call(module: nn.Module, seen: Collection[nn.Module]) -> None:
    if module in seen:
        raise ValueError(
            f"a {type(module).__name__} is called twice in a forward pass, but rate-based backpropagation stores one "
            f"rate per layer: use a separate layer for each call"
        )


def _uses_batch_statistics(norm: _Norm) -> bool:
    """Return whether a norm uses the statistics of the batch and not its running ones."""
    return norm.training or norm.running_mean is None


def _class_forward(module: nn.Module, x: Tensor) -> Tensor:
    """Run the forward of a module's class, which the instance may replace."""
    out: Tensor = type(module).forward(module, x)
    return out


def _mean(sequence: Tensor) -> Tensor:
    return sequence.mean(0, keepdim=True, dtype=torch.float32).to(sequence.dtype)


@contextmanager
def _replaced_forwards(
    network: nn.Module, neuron: Callable[[Neuron, Tensor], Tensor], norm: Callable[[Any, Tensor], Tensor]
) -> Iterator[None]:
    """Replace the forward of all neurons and batch norms by two functions; hooks on these modules still run."""
    replacements: list[tuple[type[nn.Module], Callable[..., Tensor]]] = [(Neuron, neuron), (_Norm, norm)]
    replaced = []
    for module in network.modules():
        for kind, replacement in replacements:
            if isinstance(module, kind):
                vars(module)["forward"] = partial(replacement, module)
                replaced.append(module)
    try:
        yield
    finally:
        for module in replaced:
            vars(module).pop("forward", None)
