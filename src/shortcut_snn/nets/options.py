"""Checks of options."""

from typing import Any, get_args


def check_sizes(**sizes: int) -> None:
    """Raise an error that names the size, if one is below 1 or not an integer."""
    for name, size in sizes.items():
        if not isinstance(size, int):
            raise TypeError(f"{name} must be an integer, got {size!r}")
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")


def check_choice(name: str, value: object, choices: Any) -> None:
    """Raise a ``ValueError`` for a value that is not one of a ``Literal``; the message lists those."""
    if value not in get_args(choices):
        raise ValueError(f"unknown {name} {value!r}: use one of {', '.join(get_args(choices))}")
