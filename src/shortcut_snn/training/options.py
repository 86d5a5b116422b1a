"""Options of training: how long, where, from which seed, and with which cheaper first steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class ProgressiveResizing:
    """The first part of a run trains on smaller images and fewer time steps.

    Validation and tests use full images and all time steps throughout. The learning rate's schedule is not affected.
    The cost of a step is about proportional to the pixels and time steps.

    Args:
        fraction: the part of all steps that is cheaper.
        size: pixels of the longer side to which images are reduced, after augmentation; null for full size. Not for
            targets that have the image's height and width.
        time_steps: T of static images; null for the network's.
    """

    fraction: Annotated[float, Gt(0), Lt(1)] = 0.5
    size: Annotated[int, Ge(1)] | None = None
    time_steps: Annotated[int, Ge(1)] | None = None

    def check(self, time_steps: int) -> None:
        """Raise an error if there are more time steps than the network's."""
        if self.time_steps is not None and self.time_steps > time_steps:
            raise ValueError(
                f"training.progressive_resizing.time_steps is {self.time_steps}, more than the network's {time_steps}; "
                "choose fewer"
            )

    def resize(self, images: Any) -> Any:
        """Return images ``[..., C, H, W]`` reduced to ``size``; images as small already are returned as they are."""
        if self.size is None:
            return images
        if not isinstance(images, Tensor) or images.dim() < 4:
            kind = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise ValueError(
                f"training.progressive_resizing.size needs images [..., C, H, W], got {kind}; leave it out"
            )
        scale = self.size / max(images.shape[-2:])
        if scale >= 1:
            return images
        size = [max(1, round(scale * side)) for side in images.shape[-2:]]
        small = F.interpolate(images.flatten(0, -4), size=size, mode="bilinear", antialias=True)
        return small.reshape(*images.shape[:-2], *small.shape[-2:])

    @contextmanager
    def fewer_time_steps(self, network: Any, inputs: Any) -> Iterator[None]:
        """Set a network's number of time steps within the block."""
        if self.time_steps is None:
            yield
            return
        time_steps = getattr(network, "time_steps", None)
        if not isinstance(time_steps, int) or not isinstance(inputs, Tensor) or inputs.dim() != 4:
            kind = f"inputs {list(inputs.shape)}" if isinstance(inputs, Tensor) else type(inputs).__name__
            raise ValueError(
                "training.progressive_resizing.time_steps needs images [N, C, H, W] and a network with an attribute "
                f"time_steps, got {kind} and {type(network).__name__}; leave it out"
            )
        self.check(time_steps)
        network.time_steps = self.time_steps
        try:
            yield
        finally:
            network.time_steps = time_steps


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
        accelerator: auto, cpu, gpu or another accelerator of Lightning.
        devices: number of devices of each machine.
        nodes: number of machines.
        strategy: how several devices train together, one of Lightning's (auto, ddp, ...).
        sync_batchnorm: whether batch norms use the statistics of all GPUs together; otherwise each GPU uses its own.
        threads: CPU threads; null for all cores.
        keep_freed_memory: whether, on a CPU under Linux, freed memory of large tensors is kept for the next step. This
            is faster, but the process holds its peak memory until it ends. Only the command uses it.
        checkpoint_every: steps between checkpoints within an epoch; null for checkpoints at the end of each epoch only.
        start_from: folder of a finished run whose weights are loaded before the first step; null for random weights.
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
    start_from: str | None = None

    @property
    def processes(self) -> int:
        """The number of processes that train together."""
        return self.devices * self.nodes
