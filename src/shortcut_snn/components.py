"""Components: what a recipe can name, each registered once, beside its definition, and its own configuration.

A component is a class or a function with a name in one of the kinds below. Its options are its fields (of a dataclass)
or the keyword arguments of its signature; their types, defaults and help come from there and from nowhere else. So
recipes, the command's options and its help know whatever has been registered, of this package or of a user's file::

    from shortcut_snn import components

    @components.surrogate("cosine")
    def cosine(v, *, width: float = 1.0):
        return ...
"""

import contextlib
import dataclasses
import difflib
import functools
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin

T = TypeVar("T")
_KINDS: dict[str, "Kind"] = {}
_NAMES: dict[type, tuple["Kind", str]] = {}


class Settings:
    """The options of a component that is a function or a class of objects to be built: made from its signature."""

    factory: ClassVar[Callable[..., Any]]
    given: ClassVar[frozenset[str]]

    @property
    def options(self) -> dict[str, Any]:
        """Return the options by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]

    def build(self, *args: Any, **given: Any) -> Any:
        """Call the component with its options and, of what is given, what it takes.

        Raises:
            ValueError: it takes something that is not given.
        """
        takes = _parameters(self.factory)
        missing = [
            name for name, each in list(takes.items())[len(args) :]
            if name in self.given and name not in given and each.default is each.empty
        ]  # fmt: skip
        if missing:
            kind, name = _NAMES[type(self)]
            raise ValueError(f"{kind.name} {name!r} takes {missing[0]}, which nothing here tells")
        known = {name: value for name, value in given.items() if name in takes}
        return self.factory(*args, **self.options, **known)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call a component that is a function."""
        return self.factory(*args, **self.options, **kwargs)


class Kind:
    """One kind of component: a decorator, and a dictionary from names to the classes of their options.

    Args:
        name: of the kind, for messages.
        given: parameters of a factory that are no options, since they are known from elsewhere.
    """

    def __init__(self, name: str, given: tuple[str, ...] = ()) -> None:
        self.name, self.given = name, frozenset(given)
        self.type: type | None = None
        """What a field is annotated with that takes a component of this kind."""
        self._settings: dict[str, type] = {}
        _KINDS[name] = self

    def __call__(self, name: str) -> Callable[[T], T]:
        """Register what follows under a name.

        Raises:
            ValueError: the name is another component's.
        """

        def register(made: T) -> T:
            there = self._settings.get(name)
            settings = made if dataclasses.is_dataclass(made) else _settings_of(made, self.given)  # type: ignore[arg-type]
            # A file that is imported anew defines the same things anew.
            if there is not None and _place(there) != _place(settings):
                raise ValueError(
                    f"the {self.name} {name!r} is there already, in {_place(there)[0]}: choose another name"
                )
            self._settings[name] = settings  # type: ignore[assignment]
            _NAMES[settings] = (self, name)  # type: ignore[index]
            return made

        return register

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._settings)

    def __contains__(self, name: object) -> bool:
        """Say whether a name is known."""
        return name in self._settings

    def get(self, name: Any) -> Any:
        """Return the class of a component's options, None where nothing has the name."""
        return self._settings.get(name) if isinstance(name, str) else None

    def __getitem__(self, name: str) -> Any:
        """Return the class of a component's options.

        Raises:
            ValueError: nothing has this name; the message says what has.
        """
        if name not in self._settings:
            raise ValueError(
                f"unknown {self.name} {name!r}{suggestion(name, self._settings)}; there are: {', '.join(self)}. "
                "One of your own is known once its file is named with --import"
            )
        return self._settings[name]

    def make(self, name: str, **options: Any) -> Any:
        """Return a component with some of its options."""
        return self[name](**options)


network = Kind("network", ("num_classes", "in_channels", "image_size", "make_neuron", "readout"))
neuron = Kind("neuron", ("detach_membrane",))
surrogate = Kind("surrogate", ("v",))
objective = Kind("objective", ("output", "target", "balance", "criterion"))
schedule = Kind("lambda schedule", ("step", "total"))
gradient = Kind("gradient mechanism")
head = Kind("branch head", ("channels", "num_classes"))
task = Kind(
    "task",
    ("model", "objective", "schedule", "by_epoch", "optimizer", "lr_schedule", "training", "description"),
)
optimizer = Kind("optimizer", ("params",))
lr_schedule = Kind("learning rate schedule", ("optimizer", "total"))
augmentation = Kind("augmentation")
data = Kind("data set")
logger = Kind("logger", ("save_dir",))
exporter = Kind("export format")


def kind_and_name(component: Any) -> tuple[Kind, str]:
    """Return the kind of a registered component and its name in it.

    Raises:
        ValueError: its class was never registered.
    """
    found = _NAMES.get(type(component))
    if found is None:
        raise ValueError(f"{type(component).__name__} has no name: register it, as in @components.surrogate('mine')")
    return found


def _place(made: Any) -> tuple[str, str]:
    factory = made.factory if isinstance(made, type) and issubclass(made, Settings) else made
    return factory.__module__, factory.__qualname__


def _parameters(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The named parameters; where keywords are handed on, also those of the base class or of the class returned."""
    found = inspect.signature(factory).parameters
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = {name: each for name, each in found.items() if each.kind not in variadic}
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in found.values()):
        for behind, names in _behind(factory):
            more = {name: each for name, each in _parameters(behind).items() if name not in named}
            return more | named if names is None else named | {name: more[name] for name in more if name in names}
    return named


def _behind(factory: Callable[..., Any]) -> Iterator[tuple[type, Collection[str] | None]]:
    """To what keywords go, and which: all to a base class, or those of ``Unpack[...]`` to the class returned."""
    if isinstance(factory, type):
        if factory.__mro__[1] is not object:
            yield factory.__mro__[1], None
        return
    hints = _hints(factory)
    for hint in hints.values():
        if get_origin(hint) is typing.Unpack and isinstance(hints.get("return"), type):
            yield hints["return"], _hints(get_args(hint)[0])


def _hints(subject: Any) -> dict[str, Any]:
    with contextlib.suppress(NameError, TypeError, AttributeError):
        return typing.get_type_hints(subject, include_extras=True)
    return {}


_TAKEN = ("kind", "build", "factory", "given", "options")
"""What a component's options cannot be called."""


def _settings_of(factory: Callable[..., Any], given: frozenset[str]) -> type:
    """Make the class of the options of a function or class: its parameters that have a default and are not given."""
    hints: dict[str, Any] = {}
    behind = [] if isinstance(factory, type) else [made for made, _ in _behind(factory)]
    for subject in reversed(factory.__mro__) if isinstance(factory, type) else (*behind, factory):
        hints |= _hints(subject.__init__ if isinstance(subject, type) else subject)  # type: ignore[misc]
    own = {name: each for name, each in _parameters(factory).items() if name not in given}
    options = [
        (name, hints.get(name, Any), each.default) for name, each in own.items() if each.default is not each.empty
    ]
    for name, _, default in options:
        if name in _TAKEN:
            raise ValueError(f"an option of {factory.__qualname__} cannot be called {name!r}: choose another name")
        if isinstance(default, list | dict | set):
            raise ValueError(f"the default of {factory.__qualname__}'s option {name!r} can be changed: use a tuple")
    context = frozenset(name for name in _parameters(factory) if name not in {option[0] for option in options})
    fields = [(name, hint, dataclasses.field(default=default)) for name, hint, default in options]
    namespace = {"factory": staticmethod(factory), "given": context, "__doc__": factory.__doc__}
    made = dataclasses.make_dataclass(factory.__name__, fields, bases=(Settings,), frozen=True, namespace=namespace)
    made.__module__ = factory.__module__
    return made


# From entries, as JSON and YAML have them, to components and back.


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
    of_kind = [kind for kind in _KINDS.values() if kind.type is not None and kind.type is hint]
    if of_kind:
        return Slot(of_kind[0])
    return Slot(hint) if isinstance(hint, type) and dataclasses.is_dataclass(hint) else None


def suggestion(given: str, known: typing.Iterable[str]) -> str:
    """Return ", did you mean ...?" where a name is near a known one, else nothing."""
    near = difflib.get_close_matches(str(given), list(known), 1, 0.6)
    return f" (did you mean {near[0]}?)" if near else ""


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
    defaults = {field.name: _default_of(field) for field in dataclasses.fields(settings)}
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
    parts = {field.name: type(_default_of(field)) for field in dataclasses.fields(inner)}
    within = [
        f"{name}.{key}" for name, part in parts.items() if dataclasses.is_dataclass(part) and key in hints_of(part)
    ]
    return f" (did you mean {' or '.join(within)}?)" if within else suggestion(key, hints)


def _default_of(field: "dataclasses.Field[Any]") -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _over(default: Any, value: Any) -> Any:
    """Lay what is said of a component over the default where that is of the same kind, or no kind is said."""
    if type(default) not in _NAMES or not isinstance(value, Mapping | str):
        return value
    kind, name = _NAMES[type(default)]
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
        known = _NAMES.get(type(component))
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


# What help and documentation show.


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
        found.append(Option(field.name, hint_text(hints[field.name]), _default_of(field), said.get(field.name, "")))
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
