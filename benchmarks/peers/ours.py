"""Our network, through the public interface."""

from torch import nn

from shortcut_snn import nets
from shortcut_snn.neurons import LIF, ATan, Triangle

from ..cell import Cell
from ..dynamics import ATAN_ALPHA, DECAY, THRESHOLD, TRIANGLE_HEIGHT


def network(cell: Cell) -> nets.SpikingResNet:
    """Build the network of a cell."""
    built: nets.SpikingResNet = getattr(nets, f"spiking_{cell.network}")(
        cell.classes,
        cell.time_steps,
        width=cell.width,
        make_neuron=lambda: LIF(DECAY, THRESHOLD, ATan(ATAN_ALPHA), detach_reset=True),
    )
    return built


def neuron() -> nn.Module:
    """Build the neuron of the part ``"neuron"``."""
    return LIF(DECAY, THRESHOLD, Triangle(TRIANGLE_HEIGHT), detach_reset=True)
