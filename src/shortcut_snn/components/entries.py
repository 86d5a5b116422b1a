"""From entries, as JSON and YAML have them, to components and back."""

import dataclasses
import functools
import json
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from .registry import KINDS, NAMES, Kind, suggestion


@dataclasses.dataclass(frozen=True)
class Slot:
    """What a field takes, where that is more than a plain value."""

    inner: Any
    """A Kind, or a dataclass."""
    many: bool = False
    optional: bool = False


@functools.cache
def hints_of(settings: type) -> dict[str, Any]:
    """Return the annotations of a dataclass's fields."""
    try:
        found = typing.get_type_hints(settings, include_extras=True)
    except (NameError, TypeError):
        found = {}
    return {field.name: found.get(field.name, Any) for field in dataclasses.fields(settings)}


def slot(hint: Any) -> Slot | None:
    """Return what a field of this annotation takes, None where it is a plain value."""
    if isinstance(hint, Kind):
        return Slot(hint)
    if get_origin(hint) is Annotated:
        base, *notes = get_args(hint)
        kinds = [note for note in notes if isinstance(note, Kind)]
        if not kinds:
            return slot(base)
        parts: tuple[Any, ...] = get_args(base) if get_origin(base) in (Union, types.UnionType) else (base,)
        many = any(get_origin(part) in (tuple, list) for part in parts)
        return Slot(kinds[0], many, type(None) in parts)
    if get_origin(hint) in (Union, types.UnionType):
        rest = [part for part in get_args(hint) if part is not type(None)]
        inner = slot(rest[0]) if len(rest) == 1 else None
        return None if inner is None else dataclasses.replace(inner, optional=len(rest) < len(get_args(hint)))
    of_kind = [kind for kind in KINDS.values() if kind.type is not None and kind.type is hint]
    if of_kind:
        return Slot(of_kind[0])
    return Slot(hint) if isinstance(hint, type) and dataclasses.is_dataclass(hint) else None


def read(inner: Any, entries: Any, path: str) -> Any:
    """Make a component, or a group of entries, of what a file says.

    Args:
        inner: a :class:`Kind`, or a dataclass.
        entries: a mapping; of a kind, with its name as ``kind``; a name alone stands for the defaults.
        path: where the entries stand, for messages.

    Raises:
        ValueError: an entry that there is not, or whose value makes no sense; the message names it.
    """
    if isinstance(entries, str) and isinstance(inner, Kind):
        entries = {"kind": entries}
    if not isinstance(entries, Mapping):
        form = "{kind: NAME, ...} or a name" if isinstance(inner, Kind) else "{...}"
        raise ValueError(f"{path} is a group of entries, {form}, got {_shown(entries)}")
    own = dict(entries)
    settings, title = inner, path or "the recipe"
    if isinstance(inner, Kind):
        name = own.pop("kind", None)
        if not isinstance(name, str):
            raise ValueError(f"{path}.kind is missing: one of {', '.join(inner)}")
        try:
            settings = inner[name]
        except ValueError as error:
            raise ValueError(f"{path}.kind: {error}") from None
        title = f"{inner.name} {name!r}"
    hints = hints_of(settings)
    dot = f"{path}." if path else ""
    for key in own:
        if key not in hints:
            there = ", ".join(hints) or "none"
            raise ValueError(f"{dot}{key}: {title} has no entry {key!r}{_meant(key, inner, hints)}; it has: {there}")
    defaults = {field.name: default_of(field) for field in dataclasses.fields(settings)}
    values = {key: _value(hints[key], _over(defaults[key], value), f"{dot}{key}") for key, value in own.items()}
    for field in dataclasses.fields(settings):
        if field.name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{dot}{field.name} is missing")
    try:
        return settings(**values)
    except (ValueError, TypeError) as error:
        said = str(error)
        if said.startswith(path):
            raise ValueError(said) from None
        # A message that begins with a field is of that field.
        joint = "." if re.split(r"\W", said, maxsplit=1)[0] in hints else ": "
        raise ValueError(f"{path}{joint}{said}") from None


def _meant(key: str, inner: Any, hints: Mapping[str, Any]) -> str:
    """What an entry that there is not may have been meant to be: near by name, the kind, or an entry of a part."""
    if isinstance(inner, Kind):
        return suggestion(key, hints) or " (did you mean kind?)" * (key in ("name", "type", "class"))
    parts = {field.name: type(default_of(field)) for field in dataclasses.fields(inner)}
    within = [
        f"{name}.{key}" for name, part in parts.items() if dataclasses.is_dataclass(part) and key in hints_of(part)
    ]
    return f" (did you mean {' or '.join(within)}?)" if within else suggestion(key, hints)


def default_of(field: "dataclasses.Field[Any]") -> Any:
    """Return the default of a field, made if need be."""
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _over(default: Any, value: Any) -> Any:
    """Lay what is said of a component over the default where that is of the same kind, or no kind is said."""
    if type(default) not in NAMES or not isinstance(value, Mapping | str):
        return value
    kind, name = NAMES[type(default)]
    said = {"kind": value} if isinstance(value, str) else value
    return merge(kind, write(default), said) if said.get("kind", name) == name else value


def _value(hint: Any, value: Any, path: str) -> Any:
    found = slot(hint)
    if found is None:
        return check(hint, value, path)
    if value is None:
        if found.optional:
            return None
        raise ValueError(f"{path} must have a value; leave the entry out for its default")
    if not found.many:
        return read(found.inner, value, path)
    if isinstance(value, str | Mapping):
        value = [value]
    if not isinstance(value, list | tuple):
        raise ValueError(f"{path} is a list, as in [{', '.join(list(found.inner)[:2])}], got {_shown(value)}")
    return tuple(read(found.inner, each, f"{path}[{i}]") for i, each in enumerate(value))


@functools.cache
def _adapter(hint: Any) -> Any:
    import pydantic

    return pydantic.TypeAdapter(hint, config=pydantic.ConfigDict(strict=True, arbitrary_types_allowed=True))


def check(hint: Any, value: Any, path: str) -> Any:
    """Return a plain value in the type of an annotation: a whole number where a float is wanted, a list for a tuple.

    Raises:
        ValueError: it is not of the type; the message names the entry.
    """
    import pydantic

    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError(f"{path} should be a number of at most 64 bits, got {_shown(value)}")
    try:
        # As JSON has it: strict, but that a whole number is a float too, and a list a tuple.
        return _adapter(hint).validate_json(json.dumps(value))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"[{part}]" for part in first["loc"] if isinstance(part, int))
        raise ValueError(f"{path}{place} {_wrong(error.errors(), value, hint)}, got {_shown(value)}") from None
    except TypeError:
        raise ValueError(f"{path}: {_shown(value)} is no value of a recipe") from None


_PLAIN = {
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid array": "a list",
    "a valid string": "text",
}


def _wrong(errors: Sequence[Any], value: Any, hint: Any) -> str:
    """Say in a person's words what pydantic says of each type that a value could have been of."""
    # Objects cannot be said in a recipe, though torch's options may be tensors.
    said = [each["msg"] for each in errors if each["type"] != "needs_python_object"] or ["should be something else"]
    said = [each.removeprefix("Input ").removeprefix("Value error, ") for each in said]
    for formal, plain in _PLAIN.items():
        said = [each.replace(formal, plain) for each in said]
    first, *others = dict.fromkeys(said)
    choices = [
        str(each) for part in (hint, *get_args(hint)) if get_origin(part) is typing.Literal for each in get_args(part)
    ]
    meant = suggestion(value, choices) if isinstance(value, str) else ""
    return " or ".join([first, *(each.removeprefix("should be ") for each in others)]) + meant


def write(component: Any) -> Any:
    """Return what :func:`read` makes the same component of: plain mappings, lists and values."""
    if dataclasses.is_dataclass(component) and not isinstance(component, type):
        known = NAMES.get(type(component))
        kind = {"kind": known[1]} if known else {}
        return kind | {field.name: write(getattr(component, field.name)) for field in dataclasses.fields(component)}
    if isinstance(component, list | tuple):
        return [write(each) for each in component]
    if isinstance(component, Mapping):
        return {str(key): write(each) for key, each in component.items()}
    if component is None or isinstance(component, str | int | float | bool):
        return component
    return str(component)


def merge(inner: Any, base: Any, change: Any) -> Any:
    """Return entries with others laid over them.

    Groups are merged entry by entry. Where the change names another kind, of the options that were there those stay
    that the new one has too.

    Args:
        inner: a :class:`Kind`, or a dataclass: what the entries are of; None where that is not known.
        base: entries; None for none.
        change: entries that win.
    """
    if isinstance(inner, Kind):
        base, change = ({"kind": each} if isinstance(each, str) else each for each in (base, change))
    if not isinstance(base, Mapping) or not isinstance(change, Mapping):
        return change
    settings, kept = inner, dict(base)
    name = change.get("kind", base.get("kind"))
    if isinstance(inner, Kind):
        settings = inner.get(name)
    if name != base.get("kind"):
        known = {} if settings is None else hints_of(settings)
        kept = {key: value for key, value in base.items() if key in known}
    hints = {} if settings is None else hints_of(settings)
    for key, value in change.items():
        found = slot(hints[key]) if key in hints else None
        if found is not None and found.many:
            kept[key] = value
        else:
            kept[key] = merge(None if found is None else found.inner, kept.get(key), value)
    return kept


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
