"""From a recipe's entries to the objects they name."""

from collections.abc import Callable
from typing import Any

from .. import components
from ..data import ImageData
from ..method import (
    TET,
    Balance,
    Constant,
    CosineDecay,
    LinearDecay,
    LogitSum,
    LossSum,
    Objective,
    SelfDistillation,
    Shortcut,
    StepDecay,
)
from ..nets import SpikingNetwork
from ..neurons import ATan, Neuron, Rectangle, Sigmoid, Surrogate, Tanh, Triangle
from .methods import KINDS, resolved
from .module import ShortcutModule
from .rate_backprop import RateShortcut
from .recipe import MethodConfig, NeuronConfig, Recipe, SurrogateConfig

OBJECTIVES: dict[str, Callable[[MethodConfig, float], Objective]] = {
    "logit_sum": lambda config, smoothing: LogitSum(smoothing),
    "loss_sum": lambda config, smoothing: LossSum(label_smoothing=smoothing),
    "loss_mean": lambda config, smoothing: LossSum(average=True, label_smoothing=smoothing),
    "tet": lambda config, smoothing: TET(config.tet.weight, config.tet.target, smoothing),
    "distillation": lambda config, smoothing: SelfDistillation(
        config.distillation.share, config.distillation.temperature, smoothing
    ),
}
SCHEDULES: dict[str, Callable[[float], Balance]] = {
    "constant": Constant,
    "linear": LinearDecay,
    "cosine": CosineDecay,
    "step": StepDecay,
}


SURROGATES: dict[str, type[Rectangle | Triangle | Tanh | ATan | Sigmoid]] = {
    "rectangle": Rectangle,
    "triangle": Triangle,
    "tanh": Tanh,
    "atan": ATan,
    "sigmoid": Sigmoid,
}


def surrogate(config: SurrogateConfig) -> Surrogate:
    """Return the surrogate gradient of a recipe; a wider triangle keeps the area of 1, as the rectangle does."""
    shape = SURROGATES[config.name]()
    return shape if config.width is None else shape.resized(config.width)


def neuron(config: NeuronConfig) -> Neuron:
    """Return one neuron layer of a recipe."""
    decay = {} if config.kind == "if" else {"decay": config.tau}
    made: Neuron = components.neuron.make(
        config.kind,
        **decay,
        threshold=config.threshold,
        surrogate=surrogate(config.surrogate),
        reset=config.reset,
        detach_reset=config.detach_reset,
    ).build(detach_membrane=config.gradient == "sltt")
    return made


def network(recipe: Recipe, num_classes: int, in_channels: int) -> SpikingNetwork:
    """Return the network of a recipe for a data set's classes and channels, as it is deployed."""
    recipe = resolved(recipe)
    own: SpikingNetwork = network_settings(recipe.network).build(
        num_classes=num_classes, in_channels=in_channels, make_neuron=lambda: neuron(recipe.neuron)
    )
    return own


def network_settings(config: Any) -> Any:
    """Return the options of a network."""
    entries = {"kind": config.name, "time_steps": config.time_steps, "width": config.width, "norm": config.norm}
    for name, plain in (("stem", "small"), ("block", "basic")):
        if getattr(config, name) != plain:
            entries[name] = getattr(config, name)
    given = {name: value for name, value in entries.items() if value is not None}
    return components.read(components.network, given, "network")


def balance(config: MethodConfig) -> Balance:
    """Return the balance schedule: the method's own unless the recipe says otherwise."""
    kind = KINDS[config.name]
    initial = kind.initial if config.initial is None else config.initial
    return SCHEDULES[config.schedule or kind.schedule](initial)


def objective(config: MethodConfig, label_smoothing: float) -> Objective:
    """Return the objective: the method's own unless the recipe says otherwise."""
    return OBJECTIVES[config.objective or KINDS[config.name].objective](config, label_smoothing)


def shortcut(recipe: Recipe, inner: SpikingNetwork) -> Shortcut:
    """Wrap a network; a method without branches has the same wrapper without any."""
    recipe = resolved(recipe)
    taps = recipe.method.taps if KINDS[recipe.method.name].branches else None
    wrap = RateShortcut if recipe.neuron.gradient == "rate" else Shortcut
    return wrap(inner, taps or [], num_classes=inner.num_classes)


def module(recipe: Recipe, data: ImageData) -> ShortcutModule:
    """Return what trains: the network of a recipe for its data, wrapped, with its objective and schedule."""
    inner = network(recipe, data.num_classes, data.channels)
    return ShortcutModule(
        shortcut(recipe, inner),
        objective(recipe.method, recipe.optimizer.label_smoothing),
        balance(recipe.method),
        recipe.optimizer,
        data.mean,
        data.std,
        every_step=KINDS[recipe.method.name].objective == "tet",
    )
