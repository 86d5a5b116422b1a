"""From a recipe's entries to the objects they name."""

import functools
from collections.abc import Callable

from torch.nn import functional as F

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
from ..nets import build as build_net
from ..neurons import ATan, Neuron, Rectangle, Sigmoid, Surrogate, Tanh, Triangle, make_neuron
from ..runs.gradient_mechanisms import RateShortcut
from .methods import KINDS, resolved
from .module import ShortcutModule
from .recipe import MethodConfig, NeuronConfig, Recipe, SurrogateConfig

OBJECTIVES: dict[str, Callable[[MethodConfig], Objective]] = {
    "logit_sum": lambda config: LogitSum(),
    "loss_sum": lambda config: LossSum(),
    "loss_mean": lambda config: LossSum(average=True),
    "tet": lambda config: TET(config.tet.weight, config.tet.target),
    "distillation": lambda config: SelfDistillation(config.distillation.share, config.distillation.temperature),
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
    return make_neuron(
        config.kind,
        config.tau,
        threshold=config.threshold,
        surrogate=surrogate(config.surrogate),
        reset=config.reset,
        detach_reset=config.detach_reset,
        detach_membrane=config.gradient == "sltt",
    )


def network(recipe: Recipe, num_classes: int, in_channels: int) -> SpikingNetwork:
    """Return the network of a recipe for a data set's classes and channels, as it is deployed."""
    recipe = resolved(recipe)
    return build_net(
        recipe.network.name,
        num_classes,
        recipe.network.time_steps,
        width=recipe.network.width,
        in_channels=in_channels,
        stem=recipe.network.stem,
        block=recipe.network.block,
        norm=recipe.network.norm,
        make_neuron=lambda: neuron(recipe.neuron),
    )


def balance(config: MethodConfig) -> Balance:
    """Return the balance schedule: the method's own unless the recipe says otherwise."""
    kind = KINDS[config.name]
    initial = kind.initial if config.initial is None else config.initial
    return SCHEDULES[config.schedule or kind.schedule](initial)


def objective(config: MethodConfig, label_smoothing: float) -> Objective:
    """Return the objective: the method's own unless the recipe says otherwise."""
    made = OBJECTIVES[config.objective or KINDS[config.name].objective](config)
    criterion = functools.partial(F.cross_entropy, label_smoothing=label_smoothing)
    return functools.partial(made, criterion=criterion) if label_smoothing else made


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
