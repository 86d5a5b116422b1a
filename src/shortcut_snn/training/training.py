"""How long a run trains, where, and from which seed."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from .early import Early

NonFinite = Literal["stop", "skip"]
Silent = Literal["warn", "stop", "ignore"]


@dataclass(frozen=True)
class Training:
    """The training run.

    Args:
        epochs: how often the training set is gone through.
        seed: of the weights and the order and augmentation of the data.
        precision: fp32, bf16 or fp16 (mixed: weights stay in fp32).
        warmup: fraction of all steps over which the learning rate first rises from 0, in a line.
        clip: the most that the norm of all gradients together may be; null for no limit.
        accumulate: batches whose gradients make one step.
        average: decay a step of an exponential moving average of the weights, which is what is tested and ships; null
            for the weights themselves.
        early: smaller images and fewer time steps in the first part of the run; null for none.
        decay: what weight decay falls on: weights (of convolutions and linear layers), or all parameters.
        accelerator: auto, cpu, gpu or another of Lightning's.
        devices: how many, on each machine.
        nodes: how many machines.
        strategy: how several devices work together, one of Lightning's (auto, ddp, ...).
        sync_batchnorm: whether batch norms see the images of all devices at once; else each sees its own.
        threads: CPU threads; null for all cores.
        keep_freed_memory: whether, on a CPU under Linux, the memory that large tensors free is kept for the next step:
            faster, but the process holds its peak memory until it ends. For the command alone.
        checkpoint_every: steps between checkpoints within an epoch, for long epochs; null for none but those at
            the end of every epoch and when the run is asked to stop.
        non_finite: what to do where the loss or a gradient is not finite: stop the run or skip the step.
        silent_layers: what to do where none of a layer's neurons fire, or all at every time step: warn, stop the run
            when it stays so, or ignore it.
    """

    epochs: Annotated[int, Ge(1), Le(10**6)] = 10
    seed: Annotated[int, Ge(0), Lt(2**32)] = 0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    warmup: Annotated[float, Ge(0), Lt(1)] = 0.0
    clip: Annotated[float, Gt(0)] | None = None
    accumulate: Annotated[int, Ge(1), Le(2**20)] = 1
    average: Annotated[float, Gt(0), Lt(1)] | None = None
    early: Early | None = None
    decay: Literal["weights", "all"] = "weights"
    accelerator: str = "auto"
    devices: Annotated[int, Ge(1), Le(2**12)] = 1
    nodes: Annotated[int, Ge(1), Le(2**16)] = 1
    strategy: str = "auto"
    sync_batchnorm: bool = False
    threads: Annotated[int, Ge(1), Le(2**12)] | None = None
    keep_freed_memory: bool = True
    checkpoint_every: Annotated[int, Ge(1), Le(2**40)] | None = None
    non_finite: NonFinite = "stop"
    silent_layers: Silent = "warn"

    @property
    def processes(self) -> int:
        """How many processes train together."""
        return self.devices * self.nodes
