"""Forget what a test registers."""

from collections.abc import Iterator
from contextlib import contextmanager

# Importing the recipes registers the built-in components, which must stay.
from shortcut_snn import components, recipes  # noqa: F401
from shortcut_snn.components.registry import KINDS


@contextmanager
def forgetting() -> Iterator[None]:
    """Forget at the end of the block the components that were registered in it."""
    kinds = list(KINDS.values())
    before = [dict(kind.components) for kind in kinds]
    try:
        yield
    finally:
        for kind, registered in zip(kinds, before, strict=True):
            kind.components = registered
