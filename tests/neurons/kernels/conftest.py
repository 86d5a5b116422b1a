"""Tensors are made where the kernels under test run; Triton's interpreter, which is slow, gets fewer examples."""

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import settings

from .under_test import DEVICE


def _patch_once(interpreter: Any) -> None:
    """Let the interpreter change its language once, and not at every call of a function: half of the time it takes."""
    patch, done = interpreter._patch_lang, set()
    languages = {id(interpreter.tl), id(interpreter.tl.core)}

    def once(function: Any) -> Any:
        seen = frozenset(languages & {id(value) for value in function.__globals__.values()})
        if seen not in done:
            done.add(seen)
            patch(function)
        return SimpleNamespace(restore=lambda: None)

    interpreter._patch_lang = once


if os.environ.get("TRITON_INTERPRET") == "1":
    from triton.runtime import interpreter

    if hasattr(interpreter, "_patch_lang"):
        _patch_once(interpreter)
    settings.register_profile("interpreted", settings.get_profile("tests"), max_examples=6)
    settings.load_profile("interpreted")


@pytest.fixture(autouse=True)
def device() -> Iterator[None]:
    """Let factories make their tensors on the device."""
    if DEVICE == "cpu":
        yield
        return
    # Some gradients are compared bit for bit.
    torch.use_deterministic_algorithms(True, warn_only=True)
    with torch.device(DEVICE):
        yield
