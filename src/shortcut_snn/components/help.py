"""What help and documentation show of a component's options."""

import contextlib
import dataclasses
import inspect
import types
import typing
from typing import Annotated, Any, Union, get_args, get_origin

from .entries import default_of, hints_of, slot
from .registry import Kind, Settings


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of a component, for a person."""

    name: str
    hint: str
    default: Any
    help: str


def options(settings: type) -> list[Option]:
    """Return a component's options, described by the ``Args`` of its docstring or of what it returns."""
    import docstring_parser

    subjects = [settings, *getattr(settings, "__mro__", ())]
    if issubclass(settings, Settings):
        factory: Any = settings.factory
        # What a function says nothing of is described where the class is that it returns.
        made = factory
        if inspect.isfunction(factory):
            with contextlib.suppress(NameError, TypeError):
                made = typing.get_type_hints(factory).get("return")
        subjects = [factory, *getattr(made, "__mro__", ())]
    said: dict[str, str] = {}
    for subject in subjects:
        if subject is not object and subject.__doc__:
            for each in docstring_parser.parse(subject.__doc__).params:
                said.setdefault(each.arg_name, " ".join((each.description or "").split()))
    hints = hints_of(settings)
    found = []
    for field in dataclasses.fields(settings):
        found.append(Option(field.name, hint_text(hints[field.name]), default_of(field), said.get(field.name, "")))
    return found


def hint_text(hint: Any) -> str:
    """Return an annotation as a person reads it."""
    found = slot(hint)
    if found is not None:
        inner = found.inner.name if isinstance(found.inner, Kind) else "group"
        article = "an" if inner[0] in "aeiou" else "a"
        return (f"list of {inner}s" if found.many else f"{article} {inner}") + (" or null" if found.optional else "")
    if get_origin(hint) is Annotated:
        return hint_text(get_args(hint)[0])
    if get_origin(hint) is typing.Literal:
        return ", ".join(map(str, get_args(hint)))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(hint_text(part) for part in get_args(hint))
    if hint is type(None):
        return "null"
    if get_origin(hint) in (tuple, list):
        parts = [part for part in get_args(hint) if part is not Ellipsis]
        return f"list of {hint_text(parts[0])}" if parts else "list"
    return getattr(hint, "__name__", str(hint).removeprefix("typing."))
