"""Answer: what a detector inferred, and why. Open question: what it could not infer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Answer(Generic[T]):
    """The value that a detector inferred, and the reason in words."""

    value: T
    reason: str


class OpenQuestion(ValueError):
    """Answers remain open: each of the parts names, in a sentence, the argument to pass.

    With the provisional answer, if there is one, further questions can be asked.
    """

    def __init__(self, *parts: str, provisional: Any = None) -> None:
        lines = [f"{number}. {part}" for number, part in enumerate(parts, 1)]
        super().__init__(parts[0] if len(parts) == 1 else "\n".join([f"{len(parts)} answers remain open:", *lines]))
        self.parts, self.provisional = parts, provisional


@contextmanager
def collecting(questions: list[OpenQuestion]) -> Iterator[None]:
    """Add the question that a block raises to others. Another error may follow from these, so they come first."""
    try:
        yield
    except OpenQuestion as question:
        questions.append(question)
    except (ValueError, TypeError):
        ask(questions)
        raise


def ask(questions: Sequence[OpenQuestion], provisional: Any = None) -> None:
    """Raise one error for all questions, if there are any."""
    if questions:
        # Blocks inside others may have collected a question twice.
        parts = dict.fromkeys(part for question in questions for part in question.parts)
        raise OpenQuestion(*parts, provisional=provisional) from questions[0]
