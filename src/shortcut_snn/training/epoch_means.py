"""Means of named values over the samples of an epoch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class EpochMeans:
    """Means of named values over the samples of an epoch.

    Lightning's own averages are lost when a run stops within an epoch. These are part of the checkpoint, so the
    figures of a resumed epoch equal those of an uninterrupted one.

    Example:
        >>> means = EpochMeans()
        >>> means.update({"loss": torch.tensor(1.0)}, samples=3)
        >>> means.update({"loss": torch.tensor(5.0)}, samples=1)
        >>> means.local_means()
        {'loss': 2.0}
    """

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}
        """For each name: the sum over samples, and the number of samples."""

    def update(self, values: Mapping[str, Any], samples: int | Tensor) -> None:
        """Add 0-dimensional means over ``samples`` samples; names may differ from call to call."""
        for name, value in values.items():
            mean = torch.as_tensor(value).detach().float()
            count = torch.as_tensor(samples, dtype=mean.dtype, device=mean.device)
            # The mean of no samples is not a number.
            total = torch.stack([torch.where(count > 0, mean * count, 0.0), count])
            if name in self.totals:
                total = total + self.totals[name].to(total.device)
            self.totals[name] = total

    def reset(self) -> None:
        """Forget all values."""
        self.totals = {}

    def local_means(self) -> dict[str, float]:
        """Return the means of this process alone."""
        return _means(self.totals)

    def means(self, strategy: Any) -> dict[str, float]:
        """Return the means over all processes of Lightning's strategy."""
        return _means(self.totals_of_all_processes(strategy))

    def totals_of_all_processes(self, strategy: Any) -> dict[str, Tensor]:
        """Return the totals summed over all processes."""
        # Reduction happens in place.
        return {
            name: strategy.reduce(total.to(strategy.root_device, copy=True), reduce_op="sum")
            for name, total in self.totals.items()
        }


def _means(totals: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(total[0] / total[1]) for name, total in totals.items()}
