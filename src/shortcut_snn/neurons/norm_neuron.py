"""Batch normalisation and the neuron after it, as one layer that may run in one fused pass."""

import torch
from torch import Tensor, nn

from .modules import Neuron, is_plain
from .operators.fused_neuron import batch_statistics
from .operators.layout import is_channels_last, merge_time
from .packing import bits_of
from .sequence import run_in_kernels, runs_in_kernels


class NormNeuron(nn.Module):
    """``neuron(norm(x) + residual)`` over a sequence.

    The normalisation takes its statistics over time and batch together. The two modules are one layer because passing
    activations between them costs most of the time and memory of a training step outside convolutions.

    With compiled kernels (see :func:`~shortcut_snn.neurons.set_backend`) the layer runs in one pass and calls neither
    inner module. It calls both if one of them has hooks or a replaced ``forward``, or if the kernels do not support its
    type. The spikes carry their bits (see :mod:`.packing`).

    Args:
        norm: a ``BatchNorm1d`` or ``BatchNorm2d`` over the channels.
        neuron: the neuron.

    Raises:
        TypeError: one of the two is not a module.

    Example:
        >>> import torch
        >>> from shortcut_snn.neurons import LIF
        >>> layer = NormNeuron(nn.BatchNorm2d(3), LIF())
        >>> layer(torch.rand(4, 2, 3, 8, 8)).shape
        torch.Size([4, 2, 3, 8, 8])
    """

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm, neuron: Neuron) -> None:
        super().__init__()
        if not (isinstance(norm, nn.Module) and isinstance(neuron, nn.Module)):
            raise TypeError(f"norm and neuron must be modules, got {type(norm).__name__} and {type(neuron).__name__}")
        self.norm = norm
        self.neuron = neuron

    def forward(self, x: Tensor, residual: Tensor | None = None, time_steps: int | None = None) -> Tensor:
        """Return spikes ``[T, N, C, ...]``.

        Args:
            x: ``[T, N, C, ...]``, or ``[1, N, C, ...]`` with ``time_steps``: a constant current, which is normalised
                once and enters the neuron at every step.
            residual: added to the normalised current, ``[T, N, C, ...]``.
            time_steps: T of a constant current.
        """
        if self._fuses(x, residual, time_steps):
            return self._fused(x, residual, time_steps or x.shape[0])
        current = self.norm(merge_time(x)).unflatten(0, x.shape[:2])
        if time_steps is not None and time_steps != x.shape[0]:
            current = current.expand(time_steps, *current.shape[1:])
        if residual is not None:
            current = current + residual
        spikes: Tensor = self.neuron(current)
        return spikes

    def _fuses(self, x: Tensor, residual: Tensor | None, time_steps: int | None) -> bool:
        """Return whether the kernels compute exactly what the modules would; for bad inputs the modules raise."""
        norm, neuron = self.norm, self.neuron
        # Axes of the inputs that the norm takes, with time.
        axes = {nn.BatchNorm1d: (3, 4), nn.BatchNorm2d: (5,)}.get(type(norm), ())
        if x.dim() not in axes or x.shape[2] != norm.num_features or norm.momentum is None:
            return False
        if time_steps not in (None, x.shape[0]) and x.shape[0] != 1:
            return False
        if any(tensor is not None and tensor.device != x.device for tensor in (norm.running_mean, norm.weight)):
            return False
        # torch refuses to normalise one value per channel.
        if norm.training and x.numel() == x.shape[2]:
            return False
        if not is_plain(neuron) or "forward" in vars(norm) or _has_hooks(norm) or _has_hooks(neuron):
            return False
        return runs_in_kernels(neuron, x, time_steps or x.shape[0], residual)

    def _fused(self, x: Tensor, residual: Tensor | None, time_steps: int) -> Tensor:
        norm, neuron = self.norm, self.neuron
        mean, var = norm.running_mean, norm.running_var
        from_batch = norm.training or mean is None or var is None
        if from_batch:
            mean, var = batch_statistics(x.detach())
            if norm.training and norm.track_running_stats:
                self._update_running_statistics(mean, var, x.numel() // x.shape[2])
        assert mean is not None
        assert var is not None
        # A copy of running statistics, since a later pass in training would change them before the backward pass.
        copy = not from_batch and torch.is_grad_enabled()
        mean, var = (each.to(torch.float32, copy=copy) for each in (mean, var))
        bits = None
        # Bits have the memory order of their tensor, and the kernel reads them in the order of x.
        if residual is not None and is_channels_last(residual) == is_channels_last(x):
            bits = bits_of(residual)
        spikes, _ = run_in_kernels(
            neuron,
            x,
            time_steps,
            residual=residual,
            residual_bits=bits,
            norm=(norm.weight, norm.bias, mean, var),
            eps=norm.eps,
            batch_statistics=from_batch,
        )
        return spikes

    def _update_running_statistics(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Update the running statistics as torch's batch norm does, with the unbiased variance."""
        norm = self.norm
        if norm.running_mean is None or norm.running_var is None or norm.momentum is None:
            return
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
        norm.running_var.lerp_((var * (count / (count - 1))).to(norm.running_var.dtype), norm.momentum)


def _has_hooks(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )
