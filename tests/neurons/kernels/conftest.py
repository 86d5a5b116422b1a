"""Tensors are made where the kernels under test run; Triton's interpreter, which is slow, gets fewer examples."""

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from .under_test import DEVICE

if os.environ.get("TRITON_INTERPRET") == "1":
    settings.register_profile("interpreted", settings.get_profile("tests"), max_examples=6)
    settings.load_profile("interpreted")


@pytest.fixture(autouse=True)
def device() -> Iterator[None]:
    """Let factories make their tensors on the device."""
    if DEVICE == "cpu":
        yield
        return
    with torch.device(DEVICE):
        yield
