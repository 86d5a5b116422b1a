"""Means of named values over the samples of an epoch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class EpochMeans(Metric):
    """Average named values over the samples of an epoch and over all processes.

    Lightning's own averages are lost when a run stops within an epoch. These are part of the checkpoint, so the
    figures of a resumed epoch equal those of an uninterrupted one.

    Example:
        >>> means = EpochMeans()
        >>> means.update({"loss": torch.tensor(1.0)}, samples=3)
        >>> means.update({"loss": torch.tensor(5.0)}, samples=1)
        >>> means.compute()
        {'loss': tensor(2.)}
    """

    full_state_update = False
    totals: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        # One row for each name: the sum over samples, and the number of samples.
        self.add_state("totals", torch.zeros(0, 2), dist_reduce_fx="sum")

    def update(self, values: Mapping[str, Any], samples: int) -> None:
        """Add 0-dimensional means over ``samples`` samples; names may differ from call to call."""
        new = [name for name in values if name not in self.names]
        if new:
            self.names += new
            self.totals = torch.cat([self.totals, self.totals.new_zeros(len(new), 2)])
        means = [torch.as_tensor(value, device=self.totals.device).detach().float() for value in values.values()]
        sums = torch.stack(means) * samples
        rows = [self.names.index(name) for name in values]
        self.totals[rows] += torch.stack([sums, torch.full_like(sums, samples)], 1)

    def local_means(self) -> dict[str, Tensor]:
        """Return the means of this process alone."""
        return dict(zip(self.names, self.totals[:, 0] / self.totals[:, 1], strict=True))

    def compute(self) -> dict[str, Tensor]:
        """Return the means over all processes."""
        return self.local_means()

    def reset(self) -> None:
        """Forget all values."""
        super().reset()
        self.names = []

    def state_of_all_processes(self) -> dict[str, Any]:
        """Return names and totals, summed over all processes, for a checkpoint."""
        with self.sync_context():
            return {"names": list(self.names), "totals": self.totals.clone()}

    def load(self, state: Mapping[str, Any], device: torch.device, is_global_zero: bool) -> None:
        """Continue from the totals of all processes; the first process takes all of them, the others start at 0."""
        totals = state["totals"].to(device)
        self.names, self.totals = list(state["names"]), totals if is_global_zero else torch.zeros_like(totals)
