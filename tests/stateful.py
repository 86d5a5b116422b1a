"""A DataLoader with a state, as torchdata's StatefulDataLoader has."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader


class Stateful(DataLoader[Any]):
    """Shuffles; its state is the order of the epoch and the number of batches."""

    order: list[int] | None = None
    position = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        resumed, self.order = self.order, None
        self.current = resumed or torch.randperm(len(self.dataset)).tolist()  # type: ignore[arg-type]
        size, first = self.batch_size or 1, self.position if resumed else 0
        for number in range(first, len(self)):
            self.position = number + 1
            indices = self.current[size * number : size * (number + 1)]
            yield self.collate_fn([self.dataset[index] for index in indices])

    def state_dict(self) -> dict[str, Any]:
        return {"order": self.current, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.order, self.position = state["order"], state["position"]
