"""Answer: what a detector inferred, and why."""

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Answer(Generic[T]):
    """The value that a detector inferred, and the reason in words.

    Example:
        >>> Answer(0, "changing one sample changed the same sample of the output").value
        0
    """

    value: T
    reason: str
