"""Convert the entries of a recipe, which are plain mappings, lists and values, to components and back."""

import dataclasses
import functools
import json
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from .registry import REQUIRED, Component, Kind, Option, component_of, is_component, options_of, suggestion

# Former names, which recipes, run folders and network files may still hold.
_FORMER_COMPONENTS = {"data": {"nmnist_npz": "events_npz"}}
_FORMER_OPTIONS = {"augmentation": {"least": "min_area"}, "neuron": {"most": "max_spikes"}}


@dataclass(frozen=True)
class Slot:
    """The content of an option that holds a component or a group of entries, not a plain value."""

    content: Any
    many: bool = False
    optional: bool = False


def slot(annotation: Any) -> Slot | None:
    """Return the slot of an annotation, or None for an annotation of a plain value.

    A kind is a note of ``Annotated``, a group of entries a dataclass. Either may be optional, in or around the note.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        kind = next((note for note in arguments[1:] if isinstance(note, Kind)), None)
        if kind is None:
            return slot(arguments[0])
        is_union = get_origin(arguments[0]) in (Union, types.UnionType)
        members = get_args(arguments[0]) if is_union else arguments[:1]
        return Slot(kind, any(get_origin(member) in (tuple, list) for member in members), type(None) in members)
    if origin in (Union, types.UnionType):
        present = [member for member in arguments if member is not type(None)]
        inner = slot(present[0]) if len(present) == 1 else None
        return None if inner is None else dataclasses.replace(inner, optional=len(present) < len(arguments))
    return Slot(annotation) if isinstance(annotation, type) and dataclasses.is_dataclass(annotation) else None


fields_of: Callable[[Any], dict[str, Option]] = functools.cache(options_of)
"""Returns the options of a dataclass."""


def read(content: Any, entries: Any, path: str) -> Any:
    """Build a component, or a group of entries, from plain entries.

    Args:
        entries: a mapping. For a kind it names the component as ``kind``; the name alone stands for the defaults.
        path: the position of the entries in the recipe, for messages.
    """
    if isinstance(content, Kind):
        component, values = _named_component(content, entries, path)
        options, configure, title = component.options, component.configure, f"{content.name} {component.name!r}"
    else:
        values = _mapping(entries, path, "{...}")
        options, configure, title = fields_of(content), content, path or "the recipe"
    prefix = f"{path}." if path else ""
    if unknown := [name for name in values if name not in options]:
        hint = suggestion(unknown[0], options) or _suggest_nested(unknown[0], options)
        raise ValueError(
            f"{prefix}{unknown[0]}: {title} has no entry {unknown[0]!r}{hint}; it has: {', '.join(options)}"
        )
    if missing := [name for name, option in options.items() if name not in values and option.value is REQUIRED]:
        raise ValueError(f"{prefix}{missing[0]} is missing")
    arguments = {name: _read_option(options[name], value, prefix + name) for name, value in values.items()}
    try:
        return configure(**arguments)
    except (ValueError, TypeError) as error:
        # Constructors start the message with the name of the option, if it is about one.
        separator = "." if re.split(r"\W", str(error), maxsplit=1)[0] in options else ": "
        raise ValueError(f"{path}{separator}{error}" if path else str(error)) from None


def _mapping(entries: Any, path: str, form: str) -> dict[str, Any]:
    if not isinstance(entries, Mapping):
        raise ValueError(f"{path} must be {form}, got {_shown(entries)}")
    return dict(entries)


def named_component(kind: Kind, entries: Any) -> Any:
    """Return the entries of a component as a mapping, with its current name; a name alone stands for the defaults."""
    entries = {"kind": entries} if isinstance(entries, str) else entries
    name = entries.get("kind") if isinstance(entries, Mapping) else None
    current = _FORMER_COMPONENTS.get(kind.name, {}).get(name) if isinstance(name, str) else None
    return entries if current is None else {**entries, "kind": current}


def named_options(kind: Kind, options: Mapping[str, Option], entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return entries with the current names of the options of a component."""
    former = _FORMER_OPTIONS.get(kind.name, {})
    names = {old: new for old, new in former.items() if new in options and old not in options}
    return {names.get(name, name): value for name, value in entries.items()}


def _named_component(kind: Kind, entries: Any, path: str) -> tuple[Component, dict[str, Any]]:
    """Return the component that entries name, and the other entries."""
    values = _mapping(named_component(kind, entries), path, "{kind: NAME, ...} or a name")
    name = values.pop("kind", None)
    if not isinstance(name, str):
        raise ValueError(f"{path}.kind is missing: one of {', '.join(kind)}")
    try:
        component = kind.find(name)
    except ValueError as error:
        raise ValueError(f"{path}.kind: {error}") from None
    return component, named_options(kind, component.options, values)


def _suggest_nested(name: str, options: Mapping[str, Option]) -> str:
    """Suggest ``kind`` for its synonyms, and entries of this name in the groups and components of the options."""
    if name in ("name", "type", "class"):
        return " (did you mean kind?)"
    defaults = {option.name: option.value for option in options.values() if dataclasses.is_dataclass(option.value)}
    nested = [f"{group}.{name}" for group, default in defaults.items() if name in _options_of_value(default)]
    return f" (did you mean {' or '.join(nested)}?)" if nested else ""


def _options_of_value(value: Any) -> Mapping[str, Option]:
    """Return the options of a component, or the fields of a group."""
    return component_of(value).options if is_component(value) else fields_of(type(value))


def _read_option(option: Option, value: Any, path: str) -> Any:
    inner = slot(option.annotation)
    if inner is None:
        return check(option.annotation, value, path)
    if value is None:
        if inner.optional:
            return None
        raise ValueError(f"{path} must have a value; leave the entry out for its default")
    if not inner.many:
        return read(inner.content, _over_default(inner.content, option, value), path)
    items = [value] if isinstance(value, str | Mapping) else value
    if not isinstance(items, list | tuple):
        raise ValueError(f"{path} must be a list, as in [{', '.join(list(inner.content)[:2])}], got {_shown(value)}")
    return tuple(read(inner.content, item, f"{path}[{index}]") for index, item in enumerate(items))


def _over_default(content: Any, option: Option, value: Any) -> Any:
    """Lay entries over the option's default, unless they name another component."""
    default = option.value
    if default is None or default is REQUIRED or not isinstance(content, Kind):
        return value
    entries = named_component(content, value)
    name = component_of(default).name
    if not isinstance(entries, Mapping) or entries.get("kind", name) != name:
        return value
    return merge(content, write(default), entries)


def check(annotation: Any, value: Any, path: str) -> Any:
    """Return a plain value converted to its annotation. An integer becomes a float, and a list a tuple, if needed."""
    import pydantic

    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError(f"{path} should be a number of at most 64 bits, got {_shown(value)}")
    try:
        # Pydantic's strict mode accepts lists for tuples and integers for floats only from JSON.
        return _adapter(annotation).validate_json(json.dumps(value))
    except pydantic.ValidationError as error:
        errors = error.errors()
        index = "".join(f"[{part}]" for part in errors[0]["loc"] if isinstance(part, int))
        raise ValueError(f"{path}{index} {_expected(errors, value, annotation)}, got {_shown(value)}") from None
    except TypeError:
        raise ValueError(f"{path}: a recipe cannot hold {_shown(value)}") from None


@functools.cache
def _adapter(annotation: Any) -> Any:
    import pydantic

    return pydantic.TypeAdapter(annotation, config=pydantic.ConfigDict(strict=True, arbitrary_types_allowed=True))


def _expected(errors: Sequence[Any], value: Any, annotation: Any) -> str:
    """Join pydantic's messages, one for each type of a union: "should be a number or 'auto'"."""
    # A recipe cannot hold objects, which some of torch's annotations allow.
    messages = [error["msg"] for error in errors if error["type"] != "needs_python_object"]
    messages = [message.removeprefix("Input ").removeprefix("Value error, ") for message in messages]
    first, *alternatives = dict.fromkeys(messages or ["should be another type"])
    literals = [part for part in (annotation, *get_args(annotation)) if get_origin(part) is typing.Literal]
    choices = [str(choice) for literal in literals for choice in get_args(literal)]
    hint = suggestion(value, choices) if isinstance(value, str) else ""
    return " or ".join([first, *(message.removeprefix("should be ") for message in alternatives)]) + hint


def write(value: Any) -> Any:
    """Return plain mappings, lists and values, from which :func:`read` builds the same component."""
    if isinstance(value, Mapping):
        return {str(key): write(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [write(item) for item in value]
    if isinstance(value, set):
        # Sorted, since texts come in another order in each process.
        return sorted(map(write, value), key=str)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return str(value)
    entries = {name: write(getattr(value, name)) for name in _options_of_value(value)}
    return {"kind": component_of(value).name} | entries if is_component(value) else entries


def merge(content: Any, base: Any, changes: Any) -> Any:
    """Return entries with changes laid over them, group by group.

    If the changes name another component, only those options of the base stay that the new component has too.
    """
    if isinstance(content, Kind):
        base, changes = named_component(content, base), named_component(content, changes)
    if not isinstance(base, Mapping) or not isinstance(changes, Mapping):
        return changes
    if isinstance(content, Kind):
        name = changes.get("kind", base.get("kind"))
        # A name that is not text is an error of read(), which knows its path.
        component = content.components.get(name) if isinstance(name, str) else None
        options: Mapping[str, Option] = {} if component is None else component.options
        base, changes = (named_options(content, options, entries) for entries in (base, changes))
    else:
        options = {} if content is None else fields_of(content)
    merged = dict(base)
    if "kind" in changes and base.get("kind") != changes["kind"]:
        merged = {name: value for name, value in base.items() if name in options}
    for name, value in changes.items():
        inner = slot(options[name].annotation) if name in options else None
        # A list replaces the previous list.
        replaces = inner is not None and inner.many
        nested = None if inner is None else inner.content
        merged[name] = value if replaces else merge(nested, merged.get(name), value)
    return merged


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
