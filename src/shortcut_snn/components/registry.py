"""What is registered: a kind is a decorator, and a dictionary from names to the classes of their options."""

import contextlib
import dataclasses
import difflib
import inspect
import os
import typing
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, ClassVar, TypeVar, get_args, get_origin

T = TypeVar("T")
KINDS: dict[str, "Kind"] = {}
NAMES: dict[type, tuple["Kind", str]] = {}


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
            kind, name = NAMES[type(self)]
            raise ValueError(f"{kind.name} {name!r} takes {missing[0]}, which nothing here tells")
        known = {name: value for name, value in given.items() if name in takes}
        return self.factory(*args, **self.options, **known)

    def takes(self, name: str) -> bool:
        """Say whether the component has a parameter of this name, be it an option or given."""
        return name in _parameters(self.factory)

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
        KINDS[name] = self

    def __call__(self, name: str) -> Callable[[T], T]:
        """Register what follows under a name.

        Raises:
            ValueError: the name is another component's, or an option of it is nothing that a recipe can hold.
        """

        def register(made: T) -> T:
            there = self._settings.get(name)
            settings = _checked(made) if dataclasses.is_dataclass(made) else _settings_of(made, self.given)  # type: ignore[arg-type]
            # A file that is imported anew defines the same things anew.
            if there is not None and _place(there) != _place(settings):
                raise ValueError(
                    f"the {self.name} {name!r} is there already, in {_place(there)[0]}: choose another name"
                )
            self._settings[name] = settings
            NAMES[settings] = (self, name)
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


def kind_and_name(component: Any) -> tuple[Kind, str]:
    """Return the kind of a registered component and its name in it.

    Raises:
        ValueError: its class was never registered.
    """
    found = NAMES.get(type(component))
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


def _checked(settings: Any) -> Any:
    """Return a dataclass, whose fields are options."""
    for field in dataclasses.fields(settings):
        if field.default is not dataclasses.MISSING and not _fits_a_recipe(field.default):
            raise ValueError(
                f"the default of {settings.__qualname__}'s option {field.name!r} is {field.default!r}, which no recipe "
                "can hold: take None, a number, a text or a component, or annotate it as a ClassVar"
            )
    return settings


def _settings_of(factory: Callable[..., Any], given: frozenset[str]) -> type:
    """Make the class of the options of a function or class: its parameters that have a default and are not given.

    Raises:
        ValueError: an option has a name that is taken, or a default that can be changed.
    """
    hints: dict[str, Any] = {}
    behind = [] if isinstance(factory, type) else [made for made, _ in _behind(factory)]
    for subject in reversed(factory.__mro__) if isinstance(factory, type) else (*behind, factory):
        hints |= _hints(subject.__init__ if isinstance(subject, type) else subject)  # type: ignore[misc]
    own = {name: each for name, each in _parameters(factory).items() if name not in given}
    options = [
        (name, hints.get(name, Any), each.default)
        for name, each in own.items()
        if each.default is not each.empty and _fits_a_recipe(each.default)
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


def _fits_a_recipe(default: Any) -> bool:
    """Whether a file can say it: a parameter whose default is a class or a function is no option, and keeps it."""
    if isinstance(default, tuple | list | set):
        return all(map(_fits_a_recipe, default))
    plain = isinstance(default, bool | int | float | str | os.PathLike | dict | None)
    return plain or (dataclasses.is_dataclass(default) and not isinstance(default, type))


def suggestion(given: str, known: Iterable[str]) -> str:
    """Return ", did you mean ...?" where a name is near a known one, else nothing."""
    near = difflib.get_close_matches(str(given), list(known), 1, 0.6)
    return f" (did you mean {near[0]}?)" if near else ""
