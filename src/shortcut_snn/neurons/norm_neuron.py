"""Batch normalisation and the neuron behind it, as one layer that may run in one pass."""

from torch import Tensor, nn

from .modules import Neuron, is_plain
from .operators.layout import is_channels_last, merge_time
from .operators.norm_neuron import batch_statistics
from .operators.spike_layers import pack_spikes
from .packing import bits_of, packs, with_bits
from .sequence import in_kernels, runs_in_kernels


class NormNeuron(nn.Module):
    """``neuron(norm(x) + residual)`` over a sequence.

    The statistics of the normalisation run over time and batch together. Normalisation and neuron are one
    layer because most of the time and memory of a training step outside convolutions goes to passing between
    the two. Where compiled kernels apply (see :func:`~shortcut_snn.neurons.set_backend`) neither of the two inner
    modules is called; with hooks on one of them, or with a norm or neuron of another kind, both are. The spikes carry
    themselves as bits where these are wanted for a backward pass (see :func:`~shortcut_snn.neurons.set_packing`).

    Args:
        norm: a ``BatchNorm1d`` or ``BatchNorm2d`` over the channels.
        neuron: what fires.

    Raises:
        TypeError: one of the two is no module.

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
            raise TypeError(f"a norm and a neuron are needed, got {type(norm).__name__} and {type(neuron).__name__}")
        self.norm = norm
        self.neuron = neuron

    def forward(self, x: Tensor, residual: Tensor | None = None, time_steps: int | None = None) -> Tensor:
        """Return spikes ``[T, N, C, ...]``.

        Args:
            x: ``[T, N, C, ...]``, or ``[1, N, C, ...]`` with ``time_steps``: a constant current that is
                normalised once and fed to the neuron at every step.
            residual: added to the current, ``[T, N, C, ...]``.
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
        if is_plain(self.neuron) and self.neuron.binary and not _hooked(self.neuron) and packs(spikes):
            spikes = with_bits(spikes, pack_spikes(spikes.detach()))
        return spikes

    def _fuses(self, x: Tensor, residual: Tensor | None, time_steps: int | None) -> bool:
        """Say whether the kernels compute exactly what the modules would; errors are left to the modules."""
        norm, neuron = self.norm, self.neuron
        # Axes that the norm takes, time added.
        axes = {nn.BatchNorm1d: (3, 4), nn.BatchNorm2d: (5,)}.get(type(norm), ())
        if x.dim() not in axes or x.shape[2] != norm.num_features or norm.momentum is None:
            return False
        if time_steps not in (None, x.shape[0]) and x.shape[0] != 1:
            return False
        if residual is not None and (
            residual.dtype != x.dtype
            or residual.device != x.device
            or residual.shape != (time_steps or x.shape[0], *x.shape[1:])
        ):
            return False
        if any(each is not None and each.device != x.device for each in (norm.running_mean, norm.weight)):
            return False
        if norm.training and x.numel() == x.shape[2]:
            return False
        if not is_plain(neuron) or _hooked(norm) or _hooked(neuron):
            return False
        return runs_in_kernels(neuron, x)

    def _fused(self, x: Tensor, residual: Tensor | None, time_steps: int) -> Tensor:
        norm, neuron = self.norm, self.neuron
        mean, var = norm.running_mean, norm.running_var
        batch = norm.training or mean is None or var is None
        if batch:
            mean, var = batch_statistics(x.detach())
            if norm.training:
                self._track(mean, var, x.numel() // x.shape[2])
        assert mean is not None
        assert var is not None
        bits = None if residual is None else bits_of(residual)
        if residual is not None and is_channels_last(residual) != is_channels_last(x):
            bits = None
        pack = neuron.binary and packs(x)
        numbers = (norm.weight, norm.bias, mean.float(), var.float())
        spikes, _, packed = in_kernels(
            neuron, x, time_steps, residual=residual, residual_bits=bits, norm=numbers, eps=norm.eps, batch=batch,
            want_bits=pack,
        )  # fmt: skip
        return with_bits(spikes, packed) if pack else spikes

    def _track(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Update the running statistics as the norm itself would."""
        norm = self.norm
        if norm.running_mean is None or norm.running_var is None or norm.momentum is None:
            return
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
        norm.running_var.lerp_((var * (count / (count - 1))).to(norm.running_var.dtype), norm.momentum)


def _hooked(module: nn.Module) -> bool:
    """Say whether someone expects to be called when the module is."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )
