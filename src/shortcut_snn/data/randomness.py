"""The global generators of torch (on the CPU), numpy and Python, lent out and put back."""

import random
from types import TracebackType
from typing import Any

import numpy as np
import torch


class Randomness:
    """While entered, the global generators are its own; entered again, they go on where they were.

    Args:
        seed: of its own, from 0 to below 2**63.

    Example:
        >>> own = Randomness(3)
        >>> with own:
        ...     first = torch.rand(1)
        >>> with Randomness(3):
        ...     again, next = torch.rand(1), torch.rand(1)
        >>> with own:
        ...     bool(first == again), bool(torch.rand(1) == next)
        (True, True)
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._own: tuple[Any, ...] | None = None

    def __enter__(self) -> None:
        self._outer = _state()
        if self._own is not None:
            _set_state(self._own)
            return
        # Not torch.manual_seed: it also reaches for every accelerator's generator.
        torch.default_generator.manual_seed(self.seed)
        np.random.seed(self.seed % 2**32)
        random.seed(self.seed)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._own = _state()
        _set_state(self._outer)


def _state() -> tuple[Any, ...]:
    return torch.default_generator.get_state(), np.random.get_state(), random.getstate()


def _set_state(state: tuple[Any, ...]) -> None:
    torch.default_generator.set_state(state[0])
    np.random.set_state(state[1])
    random.setstate(state[2])
