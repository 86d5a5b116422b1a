"""The random states of a process: Python's, NumPy's and torch's, saved, restored and seeded together."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def get_random_state() -> dict[str, Any]:
    """Return the random states of Python, NumPy, torch and every CUDA device.

    The result holds only tensors, numbers, strings and lists, so a checkpoint can store it without pickle.
    """
    version, numbers, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state()
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "python": [version, list(numbers), gauss],
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore what :func:`get_random_state` returned.

    A state of more CUDA devices than this machine has is restored for the devices there are.
    """
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(tuple(state["numpy"]))
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
            np.random.seed(seed)
            torch.manual_seed(seed)
        yield
    finally:
        set_random_state(state)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global CPU generators for a block, and restore them afterwards.

    It is faster than :func:`preserve_random_state` and leaves accelerators alone, so it can wrap every sample of a data
    set, also in a worker process that was forked.
    """
    torch_state, numpy_state = torch.default_generator.get_state(), np.random.get_state()
    python_state = random.getstate()
    # torch.manual_seed would also seed every accelerator.
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(torch_state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)
