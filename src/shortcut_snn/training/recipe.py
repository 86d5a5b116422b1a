"""The recipe of a run: everything that decides its outcome, typed, with a help text for each entry.

This module does not import torch: the command reads recipes and prints help before it needs it.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ..data.config import DataConfig
from . import methods
from .methods import Method


@dataclass
class SurrogateConfig:
    """The surrogate gradient.

    Args:
        name: its shape.
        width: how wide it is: the rectangle's width a, the triangle's half-base (the paper's V_th); for tanh 1 / width
            is the height k, for atan and sigmoid the height while the area stays. The default is the shape's own.
        calibrate: whether each layer gets a width of its own before training, at which the gradient keeps its size from
            the last layer to the first; the last layer keeps the width above.
    """

    name: Literal["rectangle", "triangle", "tanh", "atan", "sigmoid"] = "rectangle"
    width: float | None = None
    calibrate: bool = False


@dataclass
class NeuronConfig:
    """The neuron.

    Args:
        kind: lif, if (does not leak) or plif (tau is learned).
        tau: factor by which the membrane potential decays in a step, from 0 to 1 (not used by if).
        threshold: a neuron fires where its membrane potential is greater than this.
        surrogate: what the backward pass uses for the derivative of a spike.
        reset: hard (to 0) or soft (the threshold is subtracted).
        detach_reset: whether the gradient ignores that the reset depends on the spike.
        gradient: how gradients pass through time: bptt (back-propagation through time), sltt (not at all) or rate
            (through firing rates, in one step).
    """

    kind: Literal["lif", "if", "plif"] = "lif"
    tau: float = 0.5
    threshold: float = 1.0
    surrogate: SurrogateConfig = field(default_factory=SurrogateConfig)
    reset: Literal["hard", "soft"] = "hard"
    detach_reset: bool = False
    gradient: Literal["bptt", "sltt", "rate"] = "bptt"


@dataclass
class NetworkConfig:
    """The network.

    Args:
        name: resnet18, resnet19, resnet20, resnet34 or resnet110; without skip connections vgg11, vgg16 or vggsnn.
        width: channels of the first stage; the default is the network's own (64, 128, 16, 64, 16; of a VGG 64).
        time_steps: T, how often a static image is shown, or into how many frames a recording of events is cut.
        stem: small (3x3, stride 1) for 8x8 to 48x48 pixels, large (7x7, stride 2, pooling) for 224x224; of a ResNet.
        block: residual block of a ResNet: basic (the sum of f(x) and x is inside the neuron, the paper's), sew (the sum
            is outside, of spikes), ms (the sum is of currents, a neuron before each convolution) or plain (no sum at
            all).
        norm: bn (batch normalisation over time and batch) or tdbn (the same, starting at the threshold).
    """

    name: Literal["resnet18", "resnet19", "resnet20", "resnet34", "resnet110", "vgg11", "vgg16", "vggsnn"] = "resnet18"
    width: int | None = None
    time_steps: int = 4
    stem: Literal["small", "large"] = "small"
    block: Literal["basic", "sew", "ms", "plain"] = "basic"
    norm: Literal["bn", "tdbn"] = "bn"


@dataclass
class TETConfig:
    """Temporal efficient training, used by method tet.

    Args:
        weight: of the regulariser (the paper's lambda), from 0 to 1.
        target: where it pulls the logits (the paper's phi).
    """

    weight: float = 0.001
    target: float = 1.0


@dataclass
class DistillationConfig:
    """Self-distillation, used by method distillation.

    Args:
        share: of the soft labels in a branch's loss (the paper's alpha), from 0 to 1.
        temperature: of the soft labels, > 0.
    """

    share: float = 0.1
    temperature: float = 3.0


@dataclass
class MethodConfig:
    """How the gradient is made: the paper's methods and their rivals.

    Args:
        name: of the paper: vanilla (no branches), shortcut (lambda stays 1), evolutionary (lambda decays to 0 from
            0.25); calibrated (evolutionary with a loss for a branch at every block, and calibrated surrogates: for deep
            networks); of the rivals, with branches: deep_supervision (each has its loss), distillation (they learn from
            the main output's soft labels too); without: tet (a loss at every time step), tdbn, sew and ms (norm and
            block of the network), sltt and rate (how gradients pass through time).
        taps: where branches are: at the end of each stage but the last, of each block but the last, or at the
            submodules named in a list; the default is the method's (blocks for calibrated, else stages).
        objective: logit_sum, one cross-entropy on main + lambda * sum of branches (the paper), loss_sum,
            cross-entropy of main + lambda * the branches' (deep supervision), or loss_mean, their mean; the default is
            the method's.
        schedule: how lambda goes over training; the default is the method's (linear for evolutionary and calibrated,
            else constant).
        initial: lambda at the start; the default is the method's (0.25 for evolutionary and calibrated, else 1).
        tet: of method tet.
        distillation: of method distillation.
    """

    name: Method = "calibrated"
    taps: Literal["stages", "blocks"] | list[str] | None = None
    objective: Literal["logit_sum", "loss_sum", "loss_mean"] | None = None
    schedule: Literal["constant", "linear", "cosine", "step"] | None = None
    initial: float | None = None
    tet: TETConfig = field(default_factory=TETConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)


@dataclass
class OptimizerConfig:
    """The optimizer; its learning rate decays to 0 over half a cosine.

    Args:
        name: adamw or sgd (with momentum 0.9).
        lr: learning rate at the start.
        weight_decay: its weight decay.
        decay_all: whether normalisation and biases are decayed too.
        label_smoothing: how much of the target is spread over all classes, from 0 to 1.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    lr: float = 0.01
    weight_decay: float = 0.02
    decay_all: bool = True
    label_smoothing: float = 0.0


@dataclass
class TrainConfig:
    """The training run.

    Args:
        epochs: how often the training set is gone through.
        seed: of the weights and the order and augmentation of the data.
        precision: fp32, bf16 or fp16 (mixed: weights stay in fp32).
        accelerator: auto, cpu, gpu or another of Lightning's.
        devices: how many, on each machine.
        nodes: how many machines.
        strategy: how several devices work together, one of Lightning's (auto, ddp, ...).
        sync_batchnorm: whether batch norms see the images of all devices at once; else each sees its own.
        threads: CPU threads; the default is all cores.
        keep_freed_memory: whether, on a CPU under Linux, the memory that large tensors free is kept for the next step:
            faster, but the process holds its peak memory until it ends.
        checkpoint_every: steps between checkpoints within an epoch, for long epochs; the default is none but those at
            the end of every epoch and when the run is asked to stop.
        non_finite: what to do where the loss or a gradient is not finite: stop the run or skip the step.
        silent_layers: what to do where none of a layer's neurons fire, or all at every time step: stop the run when it
            stays so, warn only, or ignore it.
    """

    epochs: int = 10
    seed: int = 0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"
    sync_batchnorm: bool = False
    threads: int | None = None
    keep_freed_memory: bool = True
    checkpoint_every: int | None = None
    non_finite: Literal["stop", "skip"] = "stop"
    silent_layers: Literal["stop", "warn", "ignore"] = "stop"


@dataclass
class Recipe:
    """Everything that decides the outcome of a run.

    Args:
        data: what it learns from.
        network: what learns.
        neuron: its neurons.
        method: how the gradient reaches its shallow layers.
        optimizer: how weights move.
        train: how long, where, from which seed.
    """

    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    neuron: NeuronConfig = field(default_factory=NeuronConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def check(self) -> None:
        """Refuse numbers that make no sense before anything is built or written.

        Raises:
            ValueError: naming the entry.
        """
        _refuse_blanks(self)
        for name, most in _MOST.items():
            value = _entry(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be greater than 0, got {value}")
            if value is not None and value > most:
                raise ValueError(f"{name} must be at most {most:g}, got {value:g}")
        for name in ("optimizer.weight_decay", "method.initial", "train.seed", "neuron.tau"):
            value = _entry(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"{name} must not be negative, got {value}")
        for name in ("train.seed", "data.seed"):
            if _entry(self, name) >= 2**32:
                raise ValueError(f"{name} must be below 2^32, got {_entry(self, name)}")
        if not 0 <= self.optimizer.label_smoothing < 1:
            raise ValueError(f"optimizer.label_smoothing is from 0 to below 1, got {self.optimizer.label_smoothing}")
        methods.check(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain nested dictionaries, lists and numbers."""
        return _plain(dataclasses.asdict(self))  # type: ignore[no-any-return]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


# What must be greater than 0, and the most that is taken for meant.
_MOST = {
    "network.width": 2**16,
    "network.time_steps": 2**12,
    "neuron.surrogate.width": 1e6,
    "optimizer.lr": 1e38,
    "train.epochs": 10**6,
    "train.devices": 2**12,
    "train.nodes": 2**16,
    "train.threads": 2**12,
    "train.checkpoint_every": 2**40,
    "data.batch_size": 2**24,
}


def _entry(recipe: Recipe, name: str) -> Any:
    value: Any = recipe
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _refuse_blanks(config: Any, prefix: str = "") -> None:
    for entry in dataclasses.fields(config):
        value = getattr(config, entry.name)
        if dataclasses.is_dataclass(value):
            _refuse_blanks(value, f"{prefix}{entry.name}.")
        elif value is None and type(None) not in get_args(entry.type):
            raise ValueError(f"{prefix}{entry.name} must have a value; leave the entry out for its default")
