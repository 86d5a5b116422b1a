"""Our network, through the public interface."""

from collections.abc import Callable

from torch import nn

from shortcut_snn import nets
from shortcut_snn.neurons import CLIF, ILIF, KLIF, LIF, ATan, Rectangle, Triangle

from ..cell import Cell
from ..dynamics import ATAN_ALPHA, DECAY, THRESHOLD, TRIANGLE_HEIGHT


def network(cell: Cell) -> nets.SpikingResNet:
    """Build the network of a cell."""
    built: nets.SpikingResNet = getattr(nets, f"spiking_{cell.network}")(
        cell.classes,
        cell.time_steps,
        width=cell.width,
        make_neuron=lambda: LIF(DECAY, THRESHOLD, surrogate=ATan(ATAN_ALPHA), detach_reset=True),
    )
    return built


NEURONS: dict[str, Callable[[], nn.Module]] = {
    "linear-lif": lambda: LIF(DECAY, THRESHOLD, surrogate=Triangle(TRIANGLE_HEIGHT), detach_reset=True),
    "linear-clif": lambda: CLIF(DECAY, threshold=THRESHOLD, surrogate=Rectangle()),
    "linear-klif": lambda: KLIF(DECAY, threshold=THRESHOLD, surrogate=ATan(ATAN_ALPHA), detach_reset=True),
    "linear-ilif": lambda: ILIF(DECAY, threshold=THRESHOLD),
}
"""The neurons of the part ``"neuron"``, by the names of its networks."""
