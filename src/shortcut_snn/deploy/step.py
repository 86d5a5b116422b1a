"""A network one time step at a time: membrane potentials go in and come out."""

import torch
from torch import Tensor, nn

from ..nets import SpikingNetwork
from ..neurons import CurrentNeuron, Membranes


class StepNetwork(nn.Module):
    """A folded network that takes one frame (or image) a call.

    The mean of the logits over the calls is what the network itself gives for the whole sequence. Membrane potentials
    are there in the order in which the layers of neurons run, ``[N, ...]`` each.

    Args:
        network: from :func:`~shortcut_snn.deploy.fold.fold`; it keeps its number of time steps.
    """

    def __init__(self, network: SpikingNetwork) -> None:
        super().__init__()
        self.network = network
        self.neurons = [module for module in network.modules() if isinstance(module, CurrentNeuron)]

    def forward(self, frame: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        """Return this step's logits ``[N, num_classes]`` and the membrane potentials after it.

        Args:
            frame: ``[N, C, H, W]``, normalised.
            before: membrane potentials, or nothing to start from 0.
        """
        network, steps = self.network, self.network.time_steps
        membranes = Membranes(before)
        for neuron in self.neurons:
            neuron.membranes = membranes
        network.time_steps = 1
        try:
            features = network.features(frame.unsqueeze(0))
            logits: Tensor = network.classifier(features.squeeze(0))
        finally:
            network.time_steps = steps
            for neuron in self.neurons:
                neuron.membranes = None
        return (logits, *membranes.after)

    @torch.no_grad()
    def start(self, frame: Tensor) -> tuple[Tensor, ...]:
        """Return the membrane potentials before the first frame, which are 0, for a batch like this one."""
        return tuple(torch.zeros_like(membrane) for membrane in self(frame)[1:])
