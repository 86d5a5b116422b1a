"""Means over an epoch that outlive an interruption and count every sample of every process once."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Reduce = Callable[[Tensor], Tensor]
"""Sums a tensor over all processes."""


class Averages:
    """Weighted sums by name.

    Lightning's own are lost when a run stops within an epoch, and divide by a rounded number of samples where
    processes have different ones.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def clear(self) -> None:
        """Start over."""
        self._sums = {}

    def add(self, values: Mapping[str, Tensor], weight: int) -> None:
        """Add means over ``weight`` samples, each 0-dimensional."""
        for name, value in values.items():
            # A metric may have been taken out of its tensor already.
            mean = torch.as_tensor(value).detach().float()
            own = torch.stack([mean * weight, torch.full_like(mean, weight)])
            self._sums[name] = own if name not in self._sums else self._sums[name].to(own.device) + own

    def sums(self, reduce: Reduce) -> dict[str, Tensor]:
        """Return sum and weight ``[2]`` by name, over all processes."""
        if not self._sums:
            return {}
        together = reduce(torch.stack(list(self._sums.values())))
        return dict(zip(self._sums, together, strict=True))

    def means(self, reduce: Reduce) -> dict[str, Tensor]:
        """Return the means by name, over all processes."""
        return {name: total / weight for name, (total, weight) in self.sums(reduce).items()}

    def load(self, sums: Mapping[str, Tensor], device: torch.device, first: bool) -> None:
        """Go on from the sums of all processes, which the first of them takes over."""
        self._sums = {name: pair.to(device) if first else torch.zeros(2, device=device) for name, pair in sums.items()}
