"""What a test registers, forgotten behind it."""

from collections.abc import Iterator
from contextlib import contextmanager

# Recipes know all that is built in, which has to be there before.
from shortcut_snn import components, recipes  # noqa: F401


@contextmanager
def forgetting() -> Iterator[None]:
    """Forget at the end of the block what components were registered in it."""
    kinds = [value for value in vars(components).values() if isinstance(value, components.Kind)]
    before = [dict(kind) for kind in kinds]
    try:
        yield
    finally:
        for kind, registered in zip(kinds, before, strict=True):
            kind.clear()
            kind.update(registered)
