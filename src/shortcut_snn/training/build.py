"""From a recipe's entries to the objects they name."""

from collections.abc import Callable

from ..data import ImageData
from ..nets import SpikingNetwork
from ..nets import build as build_net
from ..neurons import ATan, Neuron, Rectangle, Sigmoid, Surrogate, Tanh, Triangle, make_neuron
from ..shortcut import (
    Balance,
    Constant,
    CosineDecay,
    LinearDecay,
    LogitSum,
    LossSum,
    Objective,
    Shortcut,
    StepDecay,
)
from .module import ShortcutModule
from .recipe import MethodConfig, NeuronConfig, Recipe, SurrogateConfig

INITIAL = {"vanilla": 0.0, "shortcut": 1.0, "evolutionary": 0.25}
SCHEDULE = {"vanilla": "constant", "shortcut": "constant", "evolutionary": "linear"}
SCHEDULES: dict[str, Callable[[float], Balance]] = {
    "constant": Constant,
    "linear": LinearDecay,
    "cosine": CosineDecay,
    "step": StepDecay,
}


def surrogate(config: SurrogateConfig) -> Surrogate:
    """Return the surrogate gradient of a recipe."""
    width = config.width
    if config.name == "rectangle":
        return Rectangle() if width is None else Rectangle(width)
    if config.name == "triangle":
        # A wider base keeps the area of 1, as the rectangle does.
        return Triangle() if width is None else Triangle(gamma=1.0 / width, width=width)
    if config.name == "tanh":
        return Tanh() if width is None else Tanh(1.0 / width)
    if config.name == "atan":
        return ATan() if width is None else ATan(2.0 / width)
    return Sigmoid() if width is None else Sigmoid(4.0 / width)


def neuron(config: NeuronConfig) -> Neuron:
    """Return one neuron layer of a recipe."""
    return make_neuron(
        config.kind,
        config.tau,
        threshold=config.threshold,
        surrogate=surrogate(config.surrogate),
        reset=config.reset,
        detach_reset=config.detach_reset,
    )


def network(recipe: Recipe, num_classes: int, in_channels: int) -> SpikingNetwork:
    """Return the network of a recipe for a data set's classes and channels."""
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
    initial = INITIAL[config.name] if config.initial is None else config.initial
    schedule = config.schedule or SCHEDULE[config.name]
    return SCHEDULES[schedule](initial)


def objective(config: MethodConfig, label_smoothing: float) -> Objective:
    """Return the objective."""
    if config.objective == "logit_sum":
        return LogitSum(label_smoothing)
    return LossSum(average=config.objective == "loss_mean", label_smoothing=label_smoothing)


def shortcut(config: MethodConfig, inner: SpikingNetwork) -> Shortcut:
    """Wrap a network; vanilla is the same wrapper without branches."""
    taps = [] if config.name == "vanilla" else config.taps
    return Shortcut(inner, taps, num_classes=inner.num_classes)


def module(recipe: Recipe, data: ImageData) -> ShortcutModule:
    """Return what trains: the network of a recipe for its data, wrapped, with its objective and schedule."""
    inner = network(recipe, data.num_classes, data.channels)
    return ShortcutModule(
        shortcut(recipe.method, inner),
        objective(recipe.method, recipe.optimizer.label_smoothing),
        balance(recipe.method),
        recipe.optimizer,
        data.mean,
        data.std,
    )
