"""From what a network gives to logits."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor


def tensor_in(output: Any) -> Tensor | None:
    """Return the output itself or, of a tuple or list, its first entry, if that is a tensor."""
    if isinstance(output, tuple | list) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


@dataclass(frozen=True)
class MeanOverTime:
    """Logits ``[N, classes]`` as they are; those of every time step averaged.

    Of a tuple, as in ``(spikes, membrane potential)`` or ``(output, state)``, the first entry counts.

    Args:
        time_axis: where time lies, 0 or 1, if there is a third axis.
    """

    time_axis: int = 0

    def __call__(self, output: Any) -> Tensor:
        """Return logits ``[N, classes]``.

        Raises:
            ValueError: there are not 2 or 3 axes.
        """
        logits = tensor_in(output)
        if logits is None or logits.dim() not in (2, 3):
            got = type(output).__name__ if logits is None else f"shape {tuple(logits.shape)}"
            raise ValueError(
                f"the network gave {got}, not logits [N, classes] or [T, N, classes]: pass readout=..., which takes "
                "the network's output and returns logits [N, classes]"
            )
        return logits.mean(self.time_axis) if logits.dim() == 3 else logits
