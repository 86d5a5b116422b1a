"""The membrane potential of a layer of neurons between two calls of a network."""

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Membrane:
    """What a layer that is run piece by piece starts from, and where it has come to.

    Args:
        before: membrane potential ``[N, ...]`` before the first step, or None for 0.
        after: the one after the last step, once the layer has run.

    Example:
        >>> import torch
        >>> from shortcut_snn.neurons import LIF, CurrentNeuron
        >>> layer = CurrentNeuron(LIF())
        >>> layer.membrane = Membrane()
        >>> spikes = layer(torch.full((1, 1, 1), 0.75))
        >>> layer.membrane.after.item()
        0.75
    """

    before: Tensor | None = None
    after: Tensor | None = None
