"""Rate-based back-propagation: spikes forward over T steps, gradients backward through one step of averages.

Yu et al., "Advancing Training Efficiency of Deep Spiking Neural Networks through Rate-based Backpropagation", NeurIPS
2024, arXiv 2410.11488; what is computed here is the multi-step mode of its authors' code (``model/layer.py`` and
``util/util.py`` of github.com/Tab-ct/rate-based-backpropagation). The network runs twice.

First over all time steps without a graph. Each neuron keeps its firing rate r, the mean of its spikes, and how that
answers to a current c added at every step, with surrogates in place of ds/du::

    dr/dc = (1 / T) * sum over t of surrogate(u_pre[t] - threshold) * k[t]
    k[1] = 1;  k[t + 1] = 1 + k[t] * d u_pre[t + 1] / d u_pre[t]

Each normalisation keeps mean and variance over time and batch. Then once more on the mean input, as a network without
time in which a neuron gives its r and passes ``dL/dc = dL/dr * dr/dc`` back, and a normalisation uses what was kept
but sends gradients through mean and variance as usual. So the backward pass costs one time step, whatever T.

The authors also divide the gradient of the whole loss by T; that is left out.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .modules import PLIF, Neuron

_Norm = nn.modules.batchnorm._BatchNorm
_KNOWN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class _Answer(torch.autograd.Function):
    """The rate of a neuron as a function of its mean current: value and derivative are known."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, rate: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return rate.to(current.dtype, copy=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return grad * slope.to(grad.dtype), None, None


class _Normalise(torch.autograd.Function):
    """Batch normalisation by given statistics whose gradient is that of the input's own."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(var + eps))
        ctx.eps = eps
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[:3])
        grads = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, None, None, mean, inverse, True, ctx.eps, wanted
        )
        return *(g if want else None for g, want in zip(grads, wanted, strict=True)), None, None, None


class RatePasses:
    """The two passes of a network of ours.

    Args:
        network: its neurons are :class:`~.modules.Neuron`, its normalisations batch norms.

    Raises:
        ValueError: a neuron that learns something, for which the method has no gradient.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        if not any(isinstance(module, Neuron) for module in network.modules()):
            raise ValueError(
                f"gradient rate works on neurons of shortcut_snn, of which {type(network).__name__} has none: use bptt"
            )
        for module in network.modules():
            if isinstance(module, Neuron) and any(True for _ in module.parameters()):
                learned = "a learned decay" if isinstance(module, PLIF) else f"what {type(module).__name__} learns"
                raise ValueError(f"rate-based back-propagation has no gradient for {learned}: use lif or if neurons")
        self._rates: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self._statistics: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    @contextmanager
    def spiking(self) -> Iterator[None]:
        """Run the first pass within this block."""
        self._rates, self._statistics = {}, {}
        with torch.no_grad(), _replaced(self.network, self._fire, self._watch):
            yield
        # Autocast keeps the weights it converted, and those of a pass without a graph have none.
        torch.clear_autocast_cache()

    @contextmanager
    def averages(self) -> Iterator[None]:
        """Run the second pass within this block, on an input without time."""
        steps = vars(self.network).get("time_steps")
        try:
            if steps is not None:
                self.network.time_steps = 1  # type: ignore[assignment]
            with _replaced(self.network, self._answer, self._normalise):
                yield
        finally:
            if steps is not None:
                self.network.time_steps = steps
            self._rates, self._statistics = {}, {}

    def _fire(self, neuron: Neuron, current: Tensor) -> Tensor:
        _check_first_call(neuron, self._rates)
        with torch.enable_grad():
            leaf = current.detach().requires_grad_()
            spikes = _own_forward(neuron, leaf)
            # Spike times all added up, differentiated by a current at each step: summed over steps, T * dr/dc.
            (slopes,) = torch.autograd.grad(spikes, leaf, torch.ones_like(spikes))
        spikes = spikes.detach()
        self._rates[neuron] = _mean(spikes), _mean(slopes)
        return spikes

    def _watch(self, norm: _Norm, x: Tensor) -> Tensor:
        _check_first_call(norm, self._statistics)
        if type(norm) not in _KNOWN:
            raise ValueError(
                f"rate-based back-propagation knows {', '.join(kind.__name__ for kind in _KNOWN)}, with the statistics "
                f"of one process, and not {type(norm).__name__}"
            )
        if _by_batch(norm):
            axes = [axis for axis in range(x.dim()) if axis != 1]
            var, mean = torch.var_mean(x.float(), axes, correction=0)
            self._statistics[norm] = mean, var
        return _own_forward(norm, x)

    def _answer(self, neuron: Neuron, current: Tensor) -> Tensor:
        out: Tensor = _Answer.apply(current, *self._rates[neuron])  # type: ignore[no-untyped-call]
        return out

    def _normalise(self, norm: _Norm, x: Tensor) -> Tensor:
        if not _by_batch(norm):
            return _own_forward(norm, x)
        out: Tensor = _Normalise.apply(  # type: ignore[no-untyped-call]
            x, norm.weight, norm.bias, *self._statistics[norm], norm.eps
        )
        return out


def _check_first_call(module: nn.Module, seen: Collection[nn.Module]) -> None:
    if module in seen:
        raise ValueError(
            f"rate-based back-propagation keeps one rate for a layer, so a {type(module).__name__} can be called only "
            f"once in a forward pass; give each place a layer of its own"
        )


def _by_batch(norm: _Norm) -> bool:
    """Say whether a norm goes by the statistics of the batch, not by its running ones."""
    return norm.training or norm.running_mean is None


def _own_forward(module: nn.Module, x: Tensor) -> Tensor:
    """What a module's class computes, whatever stands for its forward at the moment."""
    out: Tensor = type(module).forward(module, x)
    return out


def _mean(sequence: Tensor) -> Tensor:
    return sequence.mean(0, keepdim=True, dtype=torch.float32).to(sequence.dtype)


@contextmanager
def _replaced(
    network: nn.Module, neuron: Callable[[Neuron, Tensor], Tensor], norm: Callable[[Any, Tensor], Tensor]
) -> Iterator[None]:
    """Let two functions stand for the forward of all neurons and batch norms; hooks on these fire as ever."""
    stands: list[tuple[type[nn.Module], Callable[..., Tensor]]] = [(Neuron, neuron), (_Norm, norm)]
    there = [(module, stand) for module in network.modules() for kind, stand in stands if isinstance(module, kind)]
    for module, stand in there:
        vars(module)["forward"] = partial(stand, module)
    try:
        yield
    finally:
        for module, _ in there:
            vars(module).pop("forward", None)
