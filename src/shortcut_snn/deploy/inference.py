"""Trained networks in use: images in, classes out, for whole batches or one time step per call."""

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal, TypeAlias, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..neurons.constant_weights import declare_constant
from .anytime import AnytimePrediction, Exits, predict_anytime
from .exit_runner import ExitRunner
from .single_step import SingleStep, copy_sharing_weights
from .spec import NetworkSpec, Prepare

Images: TypeAlias = "Tensor | NDArray[np.generic]"
Precision = Literal["float32", "bfloat16"]


class Inference:
    """A trained network with the classes and the normalisation of its data.

    The network is laid out channels-last, and its neurons run in the kernels of this package.

    Args:
        network: from :func:`~shortcut_snn.deploy.fold`; it is copied.
        spec: the network's specification.
        branches: heads of branches that the network kept, by the names of their taps.
        exits: thresholds for anytime inference that are stored with the network; None without.
        precision: dtype of the layers and of what passes between them. ``"bfloat16"`` rounds weights to 8 bits and is
            faster on processors that support it; the membrane potential stays in float32 within a sequence.

    Example:
        >>> import torch
        >>> from shortcut_snn import load
        >>> network = load("digits-resnet18")
        >>> network
        Inference(inputs=[1, 8, 8], classes=10, time_steps=4)
        >>> network.logits(torch.zeros(1, 8, 8, dtype=torch.uint8)).shape
        torch.Size([1, 10])
    """

    # The stream: its membrane potentials, the sum of its logits, and its length.
    _state: Sequence[Tensor]
    _sum: Tensor | None
    _steps: int

    def __init__(
        self,
        network: nn.Module,
        spec: NetworkSpec,
        precision: Precision = "float32",
        *,
        branches: Mapping[str, nn.Module] | None = None,
        exits: Exits | None = None,
    ) -> None:
        self.spec, self.branches, self.exits = spec, dict(branches or {}), exits
        self.dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.network = for_inference(network, self.dtype)
        self.prepare = Prepare(spec).to(next(network.parameters()).device)
        self.reset()

    def __repr__(self) -> str:
        shape, classes = list(self.spec.input_shape), len(self.classes)
        return f"{type(self).__name__}(inputs={shape}, classes={classes}, time_steps={self.spec.time_steps})"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.spec.inputs.classes

    # Not inference mode, in which spikes carry no bits.
    @torch.no_grad()
    def logits(self, images: Images) -> Tensor:
        """Return logits ``[N, num_classes]``.

        Args:
            images: uint8 ``[N, C, H, W]``; for a network of events, frames of counts ``[N, T, C, H, W]``. The batch
                axis may be missing.

        Raises:
            ValueError: the images have a wrong shape or type.
        """
        x = self.model_inputs(images)
        with torch.autocast(x.device.type, enabled=False):
            logits: Tensor = self.network(x)
        return logits.float()

    @overload
    def predict(self, images: Images, anytime: None = None) -> Tensor: ...

    @overload
    def predict(self, images: Images, anytime: Exits) -> AnytimePrediction: ...

    def predict(self, images: Images, anytime: Exits | None = None) -> Tensor | AnytimePrediction:
        """Return the index of the class of each image, ``[N]``; see :meth:`logits`.

        Args:
            images: see :meth:`logits`.
            anytime: from :func:`shortcut_snn.calibrate`, or ``network.exits``. Each image then leaves the network at
                the first exit that is certain of its class, and the prediction tells where.
        """
        if anytime is None:
            return self.logits(images).argmax(-1)
        with torch.autocast(self.prepare.mean.device.type, enabled=False):
            return predict_anytime(self.exit_runner, self.model_inputs(images), anytime)

    @cached_property
    def exit_runner(self) -> ExitRunner:
        """The network with its exits: time steps, and branches that it kept."""
        return ExitRunner(self.network, self.branches, self.spec.time_steps).eval()

    def model_inputs(self, images: Images, shape: tuple[int, ...] | None = None) -> Tensor:
        """Return images or frames as the network takes them: checked, normalised and channels-last.

        ``shape`` is that of one sample, by default the network's; a frame of a stream has no axis of time.
        """
        shape = shape or self.spec.input_shape
        if not isinstance(images, Tensor | np.ndarray):
            kind = type(images).__name__
            raise TypeError(f"expected a tensor or an array, got a {kind}; for files use shortcut_snn.deploy.predict")
        # On the CPU, whatever the default device is.
        batch = images if isinstance(images, Tensor) else torch.from_numpy(images)
        batch = batch.unsqueeze(0) if batch.dim() == len(shape) else batch
        if tuple(batch.shape[1:]) != shape or not len(batch):
            expected = ", ".join(map(str, shape))
            raise ValueError(f"the network takes [N, {expected}] or [{expected}], got {list(batch.shape)}")
        if self.spec.inputs.kind == "static" and batch.dtype != torch.uint8:
            raise ValueError(f"images must be uint8, values of 0 to 255, got {batch.dtype}")
        x: Tensor = self.prepare(batch.to(self.prepare.mean.device)).to(self.dtype)
        return x.movedim(-3, -1).contiguous().movedim(-1, -3)

    @torch.no_grad()
    def step(self, frame: Images) -> Tensor:
        """Take the next frame of a stream and return the mean of the logits so far, ``[N, num_classes]``.

        The membrane potentials are kept for the next call. After T frames the mean equals :meth:`logits` of these
        frames. A stream may be longer than T frames.

        Args:
            frame: ``[N, C, H, W]``, counts of events or the same image at every step.

        Raises:
            ValueError: the frame has a wrong shape or type, or another batch size than the stream.
        """
        x = self.model_inputs(frame, self.spec.input_shape[-3:])
        if self._sum is not None and len(self._sum) != len(x):
            raise ValueError(f"the stream began with {len(self._sum)} frames at a time, got {len(x)}; call reset()")
        with torch.autocast(x.device.type, enabled=False):
            logits, *self._state = self._single_step(x, *self._state)
        self._sum = logits.float() if self._sum is None else self._sum + logits
        self._steps += 1
        return self._sum / self._steps

    def reset(self) -> None:
        """Start a new stream, with membrane potentials of 0."""
        self._state, self._sum, self._steps = (), None, 0

    @cached_property
    def _single_step(self) -> SingleStep:
        """The network one time step at a time: a copy, since another thread may run whole sequences meanwhile."""
        return SingleStep(copy_sharing_weights(self.network))


def for_inference(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy of a folded network, channels-last, with all layers but the last in a dtype."""
    network = copy.deepcopy(network)
    nn.utils.convert_conv2d_weight_memory_format(network, torch.channels_last)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in layers[:-1]:
        layer.to(dtype)
    for layer in layers:
        declare_constant(layer.weight)
        if dtype != torch.float32:
            # In a network of one's own the layer that was defined last need not be the one that runs last.
            layer.register_forward_pre_hook(_in_dtype_of_weights)
    return network.eval()


def _in_dtype_of_weights(module: nn.Module, args: tuple[Tensor, ...]) -> Tensor:
    # Not a lambda, so that a loaded network can be pickled.
    return args[0].to(module.weight.dtype)  # type: ignore[arg-type]
