"""Describe the options of a component for help texts and tables."""

import functools
import inspect
import types
import typing
from typing import Annotated, Any, Union, get_args, get_origin

from .entries import fields_of, slot
from .registry import Component, Kind, evaluated_hints


def option_help(target: Component | type) -> dict[str, str]:
    """Return the descriptions of a component's options, or of a dataclass's fields, by name.

    They are read from the ``Args`` sections of docstrings: of the class or function, of the base classes, and of the
    class that a function returns. Docstrings of torch and Lightning are skipped: they are long, and not plain text.
    """
    import docstring_parser

    factory: Any = target.definition if isinstance(target, Component) else target
    sources = [factory]
    if not isinstance(factory, type):
        sources.append(evaluated_hints(factory).get("return"))
    classes = [base for source in sources for base in getattr(source, "__mro__", ())]
    texts: dict[str, str] = {}
    for source in [factory, *classes]:
        if source is object or not source.__doc__ or source.__module__.startswith(("torch.", "lightning.")):
            continue
        for parameter in docstring_parser.parse(source.__doc__).params:
            texts.setdefault(parameter.arg_name, " ".join((parameter.description or "").split()))
    options = target.options if isinstance(target, Component) else fields_of(target)
    return {name: texts.get(name, "") for name in options}


def first_sentence(component: Component) -> str:
    """Return the first paragraph of a component's docstring, on one line, and the arguments of a variant."""
    text = " ".join((inspect.getdoc(component.definition) or "").split("\n\n")[0].split())
    if not isinstance(component.factory, functools.partial):
        return text
    fixed = inspect.signature(component.definition).bind_partial(*component.factory.args, **component.factory.keywords)
    return f"{text} With {', '.join(f'{name} {value}' for name, value in fixed.arguments.items())}."


def type_text(annotation: Any) -> str:
    """Return an annotation in words, such as "int or null" or "list of float"."""
    inner = slot(annotation)
    if inner is not None:
        content = inner.content.name if isinstance(inner.content, Kind) else "group"
        article = "an" if content[0] in "aeiou" else "a"
        text = f"list of {content}s" if inner.many else f"{article} {content}"
        return f"{text} or null" if inner.optional else text
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(arguments[0])
    if origin is typing.Literal:
        return ", ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(type_text(member) for member in arguments)
    if annotation is type(None):
        return "null"
    if origin in (tuple, list):
        items = [item for item in arguments if item is not Ellipsis]
        return f"list of {type_text(items[0])}" if items else "list"
    return getattr(annotation, "__name__", str(annotation).removeprefix("typing."))
