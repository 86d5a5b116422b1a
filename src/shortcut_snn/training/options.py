"""Options of training: how long, where, and from which seed."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from .progressive_resizing import ProgressiveResizing


@dataclass(frozen=True)
class Training:
    """Options of a training run.

    Args:
        epochs: number of passes over the training set.
        seed: seed of the weights, and of the order and augmentation of the data.
        precision: fp32, bf16 or fp16 (mixed: weights stay in fp32).
        warmup: fraction of all steps over which the learning rate first rises linearly from 0.
        clip: maximum norm of all gradients together; null for no limit.
        accumulate: batches whose gradients make one step.
        ema_decay: decay per step of an exponential moving average of the weights, which is tested and deployed; null
            for the weights themselves.
        progressive_resizing: smaller images and fewer time steps in the first part of the run; null for none.
        weight_decay_on: which parameters weight decay applies to: weights (of convolutions and linear layers), or all.
        accelerator: auto, cpu, gpu or another one of Lightning's.
        devices: number of devices of each machine.
        nodes: number of machines.
        strategy: how several devices train together, one of Lightning's (auto, ddp, ...).
        sync_batchnorm: whether batch norms use the statistics of all GPUs together; otherwise each GPU uses its own.
        threads: CPU threads; null for all cores.
        keep_freed_memory: whether, on a CPU under Linux, freed memory of large tensors is kept for the next step. This
            is faster, but the process holds its peak memory until it ends. Only the command uses it.
        checkpoint_every: steps between checkpoints within an epoch; null for checkpoints at the end of each epoch only.
    """

    epochs: Annotated[int, Ge(1), Le(10**6)] = 10
    seed: Annotated[int, Ge(0), Lt(2**32)] = 0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    warmup: Annotated[float, Ge(0), Lt(1)] = 0.0
    clip: Annotated[float, Gt(0)] | None = None
    accumulate: Annotated[int, Ge(1), Le(2**20)] = 1
    ema_decay: Annotated[float, Gt(0), Lt(1)] | None = None
    progressive_resizing: ProgressiveResizing | None = None
    weight_decay_on: Literal["weights", "all"] = "weights"
    accelerator: str = "auto"
    devices: Annotated[int, Ge(1), Le(2**12)] = 1
    nodes: Annotated[int, Ge(1), Le(2**16)] = 1
    strategy: str = "auto"
    sync_batchnorm: bool = False
    threads: Annotated[int, Ge(1), Le(2**12)] | None = None
    keep_freed_memory: bool = True
    checkpoint_every: Annotated[int, Ge(1), Le(2**40)] | None = None

    @property
    def processes(self) -> int:
        """The number of processes that train together."""
        return self.devices * self.nodes
