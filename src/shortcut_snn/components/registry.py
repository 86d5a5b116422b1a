"""The registry: a kind of component is a decorator that registers components by name."""

import dataclasses
import difflib
import functools
import inspect
import os
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

T = TypeVar("T")
REQUIRED = dataclasses.MISSING
"""The default of an option that has none."""
_RESERVED = {"kind", "component", "options", "accepts", "build", "call"}
"""Names that an entry or a :class:`Config` has itself."""


@dataclass(frozen=True)
class Option:
    """One entry that a recipe may set: a keyword parameter of a component, or a field of a dataclass."""

    name: str
    annotation: Any
    default: Any
    default_factory: Any

    @property
    def value(self) -> Any:
        """The default value, :data:`REQUIRED` if there is none."""
        return self.default if self.default_factory is REQUIRED else self.default_factory()


@dataclass(frozen=True)
class Component:
    """A registered class or function. Components are equal if their kind and name are.

    Args:
        factory: the class or function, or a variant of one: a ``functools.partial``.
        origin: the module that registered it, and the name of the class or function.
    """

    kind: str
    name: str
    factory: Callable[..., Any] = field(compare=False)
    options: Mapping[str, Option] = field(compare=False)
    origin: tuple[str, str] = field(compare=False)

    def configure(self, **values: Any) -> Any:
        """Return the component with values for some of its options: a dataclass instance, or a :class:`Config`."""
        if dataclasses.is_dataclass(self.factory):
            return self.factory(**values)
        if unknown := values.keys() - self.options.keys():
            raise TypeError(f"{self.kind} {self.name!r} has no option {min(unknown)!r}")
        return Config(self, {name: option.value for name, option in self.options.items()} | values)

    @property
    def definition(self) -> Any:
        """The class or function itself, also if the factory is a variant of it."""
        return _definition(self.factory)

    @property
    def is_built_in(self) -> bool:
        """True for a part of this package."""
        return str(self.definition.__module__).startswith("shortcut_snn.")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the name alone: functions that a user registers may not be importable."""
        return _look_up, (self.kind, self.name)


def _look_up(kind: str, name: str) -> Component:
    return KINDS[kind].find(name)


@dataclass(frozen=True)
class Config:
    """A registered function or class with values for its options, which are also attributes of the config.

    Example:
        >>> from shortcut_snn import components, nets
        >>> config = components.network.make("resnet18", width=8)
        >>> config.width, config.time_steps
        (8, 4)
        >>> type(config.build(num_classes=10)).__name__
        'SpikingResNet'
    """

    component: Component
    options: Mapping[str, Any] = field(hash=False)

    def __getattr__(self, name: str) -> Any:
        # While an object is unpickled its options are not there yet.
        options = self.__dict__.get("options", {})
        if name not in options:
            raise AttributeError(f"no option {name!r}")
        return options[name]

    def accepts(self, name: str) -> bool:
        """Return whether the component has a parameter of this name."""
        return name in inspect.signature(self.component.factory).parameters

    def build(self, **context: Any) -> Any:
        """Call the component with its options, and with the part of the context that its parameters name."""
        parameters = inspect.signature(self.component.factory).parameters
        named = {name: value for name, value in context.items() if name in parameters}
        if len(named) < len(context) and any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
            raise ValueError(
                f"{self.component.kind} {self.component.name!r}: replace its ** by named parameters, "
                f"out of {', '.join(context)}"
            )
        return self.call(**named)

    def call(self, *args: Any, **keywords: Any) -> Any:
        """Call the component with its options and all of these arguments."""
        try:
            inspect.signature(self.component.factory).bind(*args, **self.options, **keywords)
        except TypeError as error:
            raise ValueError(f"{self.component.kind} {self.component.name!r}: {error}") from None
        return self(*args, **keywords)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """Call a component that is a function, such as a surrogate or an objective, without checks."""
        return self.component.factory(*args, **self.options, **keywords)


class Kind:
    """A kind of component: a decorator that registers components, and the ``components`` by name.

    Args:
        name: the module attribute under which the kind is found, as in ``components.network``.
        context: parameters that the caller supplies when a component is built. They are not options.

    Example:
        >>> from shortcut_snn import components
        >>> @components.surrogate("flat")
        ... def flat(v, *, height: float = 0.3):
        ...     return height + 0 * v
        >>> components.surrogate.make("flat", height=0.5)(0.0)
        0.5
    """

    def __init__(self, name: str, context: tuple[str, ...] = ()) -> None:
        self.name, self.context = name, context
        self.components: dict[str, Component] = {}
        KINDS[name] = self

    def __iter__(self) -> Iterator[str]:
        return iter(self.components)

    def __call__(self, name: str) -> Callable[[T], T]:
        """Register the decorated class or function under a name.

        A variant is a ``functools.partial``: positional arguments are fixed, keyword arguments are its defaults.
        """

        def register(factory: T) -> T:
            # Of the module that registers: a variant's definition may be one of this package.
            origin = sys._getframe(1).f_globals["__name__"], _definition(factory).__qualname__
            options = options_of(factory, self.context)
            taken = options.keys() & ({"kind"} if dataclasses.is_dataclass(factory) else _RESERVED)
            if taken:
                raise ValueError(
                    f"the {self.name} {name!r} has the option {min(taken)!r}, a word of recipes: rename this parameter"
                )
            previous = self.components.get(name)
            # A file that is imported a second time replaces its own components.
            if previous is not None and previous.origin != origin:
                raise ValueError(
                    f"the {self.name} {name!r} exists already, in {previous.origin[0]}: choose another name"
                )
            component = Component(self.name, name, factory, options, origin)  # type: ignore[arg-type]
            self.components[name] = component
            if dataclasses.is_dataclass(factory):
                DATACLASSES[factory] = component  # type: ignore[index]
            return factory

        return register

    def find(self, name: str) -> Component:
        """Return the component of a name.

        Raises:
            ValueError: the name is unknown.
        """
        if (component := self.components.get(name)) is None:
            raise ValueError(f"unknown {self.name} {name!r:.80}{suggestion(name, self)}; available: {', '.join(self)}")
        return component

    def check(self, value: Any) -> Any:
        """Return what :meth:`make` returned.

        Raises:
            TypeError: the value is something else, such as a name.
        """
        if not isinstance(value, Config) or value.component.kind != self.name:
            raise TypeError(f"{self.name}: pass components.{self.name}.make(name, ...), got {value!r:.60}")
        return value

    def make(self, name: str, **options: Any) -> Any:
        """Return a component with values for some of its options."""
        return self.find(name).configure(**options)


KINDS: dict[str, Kind] = {}
DATACLASSES: dict[type, Component] = {}
"""Components that are dataclasses. Their instances hold their own options."""


def is_component(value: Any) -> bool:
    """Return whether a value is a config, or an instance of a registered dataclass."""
    return isinstance(value, Config) or type(value) in DATACLASSES


def component_of(value: Any) -> Component:
    """Return the registered component of a config or of a dataclass instance."""
    component = value.component if isinstance(value, Config) else DATACLASSES.get(type(value))
    if component is None:
        raise ValueError(f"{type(value).__name__} is not registered: decorate it, as in @components.surrogate('mine')")
    return component


def options_of(target: Any, context: Iterable[str] = ()) -> dict[str, Option]:
    """Return the options of a dataclass, a class or a function.

    They are the fields of a dataclass, or else the parameters that have a default and are not part of the context.
    A default that YAML cannot hold, such as a function or a class, makes a parameter not an option. An option whose
    default is a component holds components of that kind.
    """
    if dataclasses.is_dataclass(target):
        hints = evaluated_hints(target)
        defaults = [(each.name, each.default, each.default_factory) for each in dataclasses.fields(target) if each.init]
    else:
        definition = _definition(target)
        hints = evaluated_hints(getattr(definition, "__init__") if isinstance(definition, type) else definition)  # noqa: B009
        defaults = [
            (name, parameter.default, REQUIRED)
            for name, parameter in inspect.signature(target).parameters.items()
            if parameter.default is not parameter.empty and name not in context
        ]
    options = {}
    for name, default, factory in defaults:
        if default is REQUIRED or _in_yaml(default):
            hint = hints.get(name, Any)
            if is_component(default):
                hint = Annotated[hint, KINDS[component_of(default).kind]]
            options[name] = Option(name, hint, default, factory)
    return options


def evaluated_hints(target: Any) -> dict[str, Any]:
    """Return the annotations of a class or a function; none if one of them cannot be evaluated."""
    try:
        return typing.get_type_hints(target, include_extras=True)
    except (NameError, TypeError, AttributeError):
        # An annotation that cannot be evaluated: the option takes any value.
        return {}


def _in_yaml(value: Any) -> bool:
    if isinstance(value, tuple | list | set):
        return all(map(_in_yaml, value))
    if dataclasses.is_dataclass(value):
        return not isinstance(value, type)
    return isinstance(value, bool | int | float | str | os.PathLike | dict | None)


def _definition(factory: Any) -> Any:
    return factory.func if isinstance(factory, functools.partial) else factory


REPLACED = {
    "average": "ema_decay",
    "balance": "branch_weight",
    "calibrate": "initialise",
    "calibrated": "initialised",
    "decay": "weight_decay_on",
    "early": "progressive_resizing",
    "schedule": "branch_weight",
    "spiking_qkformer": "qkformer",
    "tell": "log",
}
"""What replaces the names of earlier versions, where it is among the choices."""


def suggestion(word: str, choices: Iterable[str]) -> str:
    """Return " (did you mean ...?)" with the closest choice or what replaced a name, or an empty string."""
    choices = list(choices)
    if REPLACED.get(word) in choices:
        return f" (it is now {REPLACED[word]})"
    close = difflib.get_close_matches(str(word), choices, 1, 0.6)
    return f" (did you mean {close[0]}?)" if close else ""
