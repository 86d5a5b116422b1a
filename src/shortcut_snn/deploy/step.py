"""A network one time step at a time: membrane potentials go in and come out."""

import torch
from torch import Tensor, nn

from ..nets import SpikingNetwork
from ..neurons import CurrentNeuron, Membrane


def neurons_of(network: nn.Module) -> dict[str, CurrentNeuron]:
    """Return the layers of neurons of a folded network, by their paths."""
    return {path: module for path, module in network.named_modules() if isinstance(module, CurrentNeuron)}


def check_steps(network: nn.Module) -> None:
    """See to it that the logits of single time steps make those of the network.

    Raises:
        ValueError: they do not.

    Example:
        >>> check_steps(nn.Linear(2, 2))
    """
    if getattr(network, "readout", "mean") == "sequence":
        raise ValueError(
            "the network gives logits of every time step, and a file of one step gives their mean: export to onnx"
        )


class StepNetwork(nn.Module):
    """A folded network that takes one frame (or image) a call.

    The mean of the logits over the calls is what the network itself gives for the whole sequence.

    Args:
        network: from :func:`~shortcut_snn.deploy.folding.fold`; it keeps its number of time steps.

    Raises:
        ValueError: a network that does not say how it computes one time step.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        if not isinstance(network, SpikingNetwork):
            raise ValueError(
                f"{type(network).__name__} runs whole sequences; to run it step by step, derive it from SpikingNetwork"
            )
        self.network = network
        self.neurons = list(neurons_of(network).values())
        self.names = list(neurons_of(network))
        """Paths of the layers of neurons, in the order of their membrane potentials."""

    def forward(self, frame: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        """Return this step's logits ``[N, num_classes]`` and the membrane potentials ``[N, ...]`` after it.

        Args:
            frame: ``[N, C, H, W]``, normalised.
            before: membrane potentials, or nothing to start from 0.
        """
        network, steps = self.network, self.network.time_steps
        membranes = [Membrane(each) for each in before] or [Membrane() for _ in self.neurons]
        for neuron, membrane in zip(self.neurons, membranes, strict=True):
            neuron.membrane = membrane
        network.time_steps = 1
        try:
            features = network.features(frame.unsqueeze(0))
            logits: Tensor = network.classifier(features.squeeze(0))
        finally:
            network.time_steps = steps
            for neuron in self.neurons:
                neuron.membrane = None
        after = [membrane.after for membrane in membranes]
        return (logits, *(each for each in after if each is not None))

    @torch.no_grad()
    def start(self, frame: Tensor) -> tuple[Tensor, ...]:
        """Return the membrane potentials before the first frame, which are 0, for a batch like this one."""
        return tuple(torch.zeros_like(membrane) for membrane in self(frame)[1:])
