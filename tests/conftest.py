"""Every test starts from the same random numbers, and property tests from the same examples."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

# The tensors are so small that a second thread costs more than it saves, most of all on a busy machine.
torch.set_num_threads(1)
settings.register_profile("tests", deadline=None, max_examples=25, derandomize=True, database=None)
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def seed() -> Iterator[None]:
    """Seed torch before a test and give the caller's random state back after it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
