"""The random states of a process: Python's, NumPy's and torch's, saved, restored and seeded together."""

import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import torch


def get_random_state() -> dict[str, Any]:
    """Return the random states of Python, NumPy, torch and every CUDA device.

    The result holds only tensors, numbers, strings and lists, so a checkpoint can store it without pickle.
    """
    version, numbers, gauss = random.getstate()
    state: dict[str, Any] = {"torch": torch.get_rng_state(), "python": [version, list(numbers), gauss]}
    if (numpy := sys.modules.get("numpy")) is not None:
        kind, keys, *rest = numpy.random.get_state()
        state["numpy"] = [kind, keys.tolist(), *rest]
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore what :func:`get_random_state` returned.

    A state of more CUDA devices than this machine has is restored for the devices there are.
    """
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    if "numpy" in state:
        import numpy

        numpy.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available():
        for device, cuda in enumerate(state.get("cuda", ())[: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(cuda.cpu(), device)


@contextmanager
def preserve_random_state(seed: int | None = None) -> Iterator[None]:
    """Restore all random states after the block."""
    state = get_random_state()
    try:
        if seed is not None:
            random.seed(seed)
            # NumPy is loaded already wherever its generator can have been used.
            if (numpy := sys.modules.get("numpy")) is not None:
                numpy.random.seed(seed)
            torch.manual_seed(seed)
        yield
    finally:
        set_random_state(state)


class RandomStream:
    """A RandomStream replaces the global CPU generators while it is entered, and continues when entered again.

    It is faster than :func:`preserve_random_state` and leaves accelerators alone, so it can wrap every sample of a data
    set, also in a worker process that was forked.

    Args:
        seed: seeds torch, NumPy and Python on the first entry; from 0 to below 2**63.

    Example:
        >>> stream = RandomStream(3)
        >>> with stream:
        ...     first = torch.rand(1)
        >>> with RandomStream(3):
        ...     again, following = torch.rand(1), torch.rand(1)
        >>> with stream:
        ...     bool(first == again), bool(torch.rand(1) == following)
        (True, True)
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._states: tuple[Any, ...] | None = None

    def __enter__(self) -> None:
        self._outer = _cpu_states()
        if self._states is not None:
            _set_cpu_states(self._states)
            return
        import numpy

        # torch.manual_seed would also seed every accelerator.
        torch.default_generator.manual_seed(self.seed)
        numpy.random.seed(self.seed % 2**32)
        random.seed(self.seed)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._states = _cpu_states()
        _set_cpu_states(self._outer)


def _cpu_states() -> tuple[Any, ...]:
    import numpy

    return torch.default_generator.get_state(), numpy.random.get_state(), random.getstate()


def _set_cpu_states(states: tuple[Any, ...]) -> None:
    import numpy

    torch.default_generator.set_state(states[0])
    numpy.random.set_state(states[1])
    random.setstate(states[2])
