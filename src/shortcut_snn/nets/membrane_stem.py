"""The stem of networks whose blocks pass currents on."""

from torch import Tensor, nn

from .blocks import MakeNeuron
from .layers import over_time
from .stems import Stem, StemKind


class MembraneStem(nn.Module):
    """A stem without its neuron, for blocks that begin with theirs; a static image passes once.

    The kinds are :class:`~.stems.Stem`'s; ``large`` pools the currents (MS-ResNet's authors have a stride of 2 in the
    first block instead).
    """

    def __init__(self, kind: StemKind, inputs: int, outputs: int, make_neuron: MakeNeuron) -> None:
        super().__init__()
        whole = Stem(kind, inputs, outputs, make_neuron)
        self.conv, self.norm, self.pool = whole.conv, whole.spike.norm, whole.pool

    def forward(self, x: Tensor, time_steps: int) -> Tensor:
        """Map images ``[1, N, C, H, W]`` or frames ``[T, N, C, H, W]`` to currents ``[T, N, outputs, ...]``."""
        current = over_time(lambda flat: self.pool(self.norm(self.conv(flat))), x)
        return current.expand(time_steps, *current.shape[1:])
