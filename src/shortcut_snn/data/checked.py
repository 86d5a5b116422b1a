"""Dataclasses that check their fields against their annotations, in Python as in a recipe."""

import os
from typing import Any

from .. import components


class Checked:
    """A frozen dataclass that checks its plain fields; it accepts a path as a string and a list as a tuple."""

    def __post_init__(self) -> None:
        settings: Any = type(self)
        for name, option in components.fields_of(settings).items():
            if components.slot(option.annotation) is None:
                value = getattr(self, name)
                value = os.fspath(value) if isinstance(value, os.PathLike) else value
                object.__setattr__(self, name, components.check(option.annotation, value, name))
