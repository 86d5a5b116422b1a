"""Batch normalisation and the neuron behind it, as one layer that may run in one pass."""

from torch import Tensor, nn

from .modules import Neuron


class NormNeuron(nn.Module):
    """``neuron(norm(x) + residual)`` over a sequence.

    The statistics of the normalisation run over time and batch together. Normalisation and neuron are one
    layer because most of the time and memory of a training step outside convolutions goes to passing between
    the two.

    Args:
        norm: a ``BatchNorm1d`` or ``BatchNorm2d`` over the channels.
        neuron: what fires.
    """

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm, neuron: Neuron) -> None:
        super().__init__()
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
        current = self.norm(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        if time_steps is not None and time_steps != x.shape[0]:
            current = current.expand(time_steps, *current.shape[1:])
        if residual is not None:
            current = current + residual
        spikes: Tensor = self.neuron(current)
        return spikes
