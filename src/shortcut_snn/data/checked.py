"""Dataclasses whose fields are checked by their annotations wherever they are made, not in recipes alone."""

import os
from typing import Any

from .. import components


class Checked:
    """A frozen dataclass that checks its plain fields, and takes a path for a string and a list for a tuple.

    Raises:
        ValueError: a field is not of its type or out of its range; the message begins with its name.
    """

    def __post_init__(self) -> None:
        settings: Any = type(self)
        for name, option in components.fields_of(settings).items():
            if components.slot(option.annotation) is None:
                value = getattr(self, name)
                value = os.fspath(value) if isinstance(value, os.PathLike) else value
                object.__setattr__(self, name, components.check(option.annotation, value, name))
