"""Create tensors on the device of the kernels under test; Triton's slow interpreter gets fewer examples."""

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import settings

from .under_test import DEVICE


def _patch_once(interpreter: Any) -> None:
    """Let the interpreter patch its language once instead of at every call, which takes half of its time."""
    patch, patched = interpreter._patch_lang, set()
    languages = {id(interpreter.tl), id(interpreter.tl.core)}

    def once(function: Any) -> Any:
        seen = frozenset(languages & {id(value) for value in function.__globals__.values()})
        if seen not in patched:
            patched.add(seen)
            patch(function)
        return SimpleNamespace(restore=lambda: None)

    interpreter._patch_lang = once


if os.environ.get("TRITON_INTERPRET") == "1":
    from triton.runtime import interpreter

    if hasattr(interpreter, "_patch_lang"):
        _patch_once(interpreter)
    settings.register_profile("interpreted", settings.get_profile("tests"), max_examples=3)
    settings.load_profile("interpreted")


@pytest.fixture(autouse=True, scope="module")
def compiled_neurons(kernels: None) -> None:
    """Run the kernels where a test does not choose the backend."""


@pytest.fixture(autouse=True)
def device() -> Iterator[None]:
    """Create the tensors of a test on the device."""
    if DEVICE == "cpu":
        yield
        return
    # Some gradients are compared bit for bit.
    torch.use_deterministic_algorithms(True, warn_only=True)
    with torch.device(DEVICE):
        yield
