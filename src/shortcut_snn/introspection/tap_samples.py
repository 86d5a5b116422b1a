"""The axis of samples in the features of a tap."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..method import Extract
from .answer import OpenQuestion
from .infer_batch_axis import Samples
from .perturb import BatchAxis, Changed
from .recorder import Pass


@dataclass(frozen=True)
class Located:
    """The features of a tap, and the axis of samples in them.

    Args:
        features: of the first call in the base pass.
        extract: maps a module's output to its features, for batches of the example's full size.
        batch: the axis of samples.
        unfolded: whether time and samples shared an axis.
    """

    features: Tensor
    extract: Extract
    batch: int
    unfolded: bool = False

    def changes(self, name: str) -> Callable[[Pass], Changed | None]:
        """Return the function that says where these features differ in a pass from the base pass."""

        def changes(done: Pass) -> Changed | None:
            changed = done.changes.get(name)
            # The two unfolded axes were one.
            return changed if changed is None or not self.unfolded else [changed[0], *changed]

        return changes


def place_of_samples(samples: Samples, name: str, features: Tensor) -> BatchAxis:
    """Return the axis of samples in the features of a tap.

    Raises:
        ValueError: no axis, several axes, or one that :class:`~shortcut_snn.Shortcut` cannot use.
    """
    axes = samples.prefer_unmerged(samples.axes_of_module(name), features)
    shape = tuple(features.shape)
    if len(axes) != 1:
        problem = "may hold samples along several axes" if axes else "mixes samples"
        raise OpenQuestion(
            f"the tap {name!r} gives shape {shape}, which {problem}: pass time_axis=0 for [T, N, ...], 1 for "
            "[N, T, ...] or None for [N, ...]"
        )
    (found,) = axes
    if found.axis > (0 if found.merged else 1):
        raise ValueError(
            f"the tap {name!r} gives shape {shape} with its samples along axis {found.axis}: pass extract=..., as in "
            f"lambda y: y.movedim({found.axis}, 0), and time_axis=None"
        )
    return found
