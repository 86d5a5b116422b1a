"""A third-party network with its reset, its time loop and its readout as one module, for graphs."""

from typing import Any

from torch import Tensor, nn

from ..method import Shortcut, call_on
from ..neurons import Neuron


class OneCall(nn.Module):
    """Map a batch to logits as the wrapper of a network does.

    Args:
        model: the wrapper.

    Example:
        >>> import torch
        >>> from shortcut_snn import attach
        >>> network = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
        >>> OneCall(attach(network, [], example=torch.rand(2, 4), log=len))(torch.rand(6, 4)).shape
        torch.Size([6, 3])
    """

    def __init__(self, model: Shortcut) -> None:
        super().__init__()
        self.network, self.run, self.readout, self.reset = model.network, model.run, model.readout, model._reset

    def forward(self, x: Tensor) -> Any:
        """Return the logits, and leave the network in its initial state."""
        self._reset_network()
        output = call_on(self.network, self.run, x)
        self._reset_network()
        return output if self.readout is None else self.readout(output)

    def _reset_network(self) -> None:
        if self.reset is not None:
            self.reset(self.network)


def without_wrapper(network: nn.Module) -> nn.Module:
    """Return a wrapper's network if its neurons are built in, and else the network as one call."""
    if not isinstance(network, Shortcut):
        return network
    is_built_in = any(isinstance(module, Neuron) for module in network.network.modules())
    return network.network if is_built_in else OneCall(network)
