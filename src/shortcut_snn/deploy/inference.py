"""Trained networks in use: images in, classes out, for whole batches or one time step per call."""

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..introspection.neurons import spiking_layers
from ..nets import SpikingNetwork
from ..nets.layers import channels_last
from ..neurons.current_neuron import Membrane
from .spec import NetworkSpec, Prepare


def check_has_single_steps(network: nn.Module) -> None:
    """Check that a network can run one time step per call, the mean of whose logits is its own output."""
    if not isinstance(network, SpikingNetwork):
        raise ValueError(
            f"{type(network).__name__} runs whole sequences only; derive it from SpikingNetwork to run single steps"
        )
    if network.readout == "sequence":
        raise ValueError("the network returns the logits of every time step, not their mean: export to onnx")


class SingleStep(nn.Module):
    """A folded network that takes one frame (or image) per call.

    The mean of the logits over T calls equals the output of the network for the sequence.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        check_has_single_steps(network)
        self.network: SpikingNetwork = network  # type: ignore[assignment]
        layers = spiking_layers(network)
        self.names = list(layers)
        """Paths of the layers of neurons, in the order of their membrane potentials."""
        self._layers = list(layers.values())

    def forward(self, frame: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        """Return the logits ``[N, num_classes]`` of one step and the membrane potentials ``[N, ...]`` after it.

        Args:
            frame: normalised frame ``[N, C, H, W]``.
            *before: membrane potentials before the step; without any the network starts from 0.
        """
        network, steps = self.network, self.network.time_steps
        membranes = [Membrane(potential) for potential in before] or [Membrane() for _ in self._layers]
        for layer, membrane in zip(self._layers, membranes, strict=True):
            layer.membrane = membrane  # type: ignore[assignment]
        network.time_steps = 1
        try:
            features = network.features(frame.unsqueeze(0))
            logits: Tensor = network.classifier(features.squeeze(0))
        finally:
            network.time_steps = steps
            for layer in self._layers:
                layer.membrane = None  # type: ignore[assignment]
        return (logits, *(membrane.after for membrane in membranes if membrane.after is not None))

    @torch.no_grad()
    def initial_state(self, frame: Tensor) -> tuple[Tensor, ...]:
        """Return membrane potentials of 0 for a batch of the shape of ``frame``."""
        return tuple(torch.zeros_like(membrane) for membrane in self(frame)[1:])


Images: TypeAlias = "Tensor | NDArray[np.generic]"
Precision = Literal["float32", "bfloat16"]


class Inference:
    """A trained network with the classes and the normalisation of its data.

    The network is laid out channels-last, and its neurons run in the kernels of this package.

    Args:
        network: from :func:`~shortcut_snn.deploy.fold`; it is copied.
        spec: the network's specification.
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

    def __init__(self, network: nn.Module, spec: NetworkSpec, precision: Precision = "float32") -> None:
        self.spec = spec
        self.dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.network = for_inference(network, self.dtype)
        self.prepare = Prepare(spec).to(next(network.parameters()).device)
        self.reset()

    def __repr__(self) -> str:
        """Return what the network takes and returns."""
        inputs, steps = self.spec.inputs, self.spec.time_steps
        shape = [*(() if inputs.kind == "static" else (steps,)), inputs.channels, *inputs.image_size]
        return f"{type(self).__name__}(inputs={shape}, classes={len(self.classes)}, time_steps={steps})"

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
        inputs = self.spec.inputs
        steps = () if inputs.kind == "static" else (self.spec.time_steps,)
        x = self._model_inputs(images, (*steps, inputs.channels, *inputs.image_size))
        with torch.autocast(x.device.type, enabled=False):
            logits: Tensor = self.network(x)
        return logits

    def predict(self, images: Images) -> Tensor:
        """Return the index of the class of each image, ``[N]``; see :meth:`logits`."""
        return self.logits(images).argmax(-1)

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
        x = self._model_inputs(frame, (self.spec.inputs.channels, *self.spec.inputs.image_size))
        if self._sum is not None and len(self._sum) != len(x):
            raise ValueError(f"the stream began with {len(self._sum)} frames at a time, got {len(x)}; call reset()")
        with torch.autocast(x.device.type, enabled=False):
            logits, *self._state = self._single_step(x, *self._state)
        self._sum = logits if self._sum is None else self._sum + logits
        self._steps += 1
        return self._sum / self._steps

    def reset(self) -> None:
        """Start a new stream, with membrane potentials of 0."""
        self._state, self._sum, self._steps = (), None, 0

    @cached_property
    def _single_step(self) -> SingleStep:
        """The network one time step at a time.

        It is a copy that shares the weights: a step sets the membrane potentials of its layers, and another thread may
        run whole sequences at the same time.
        """
        tensors = (*self.network.parameters(), *self.network.buffers())
        return SingleStep(copy.deepcopy(self.network, {id(tensor): tensor for tensor in tensors}))

    def _model_inputs(self, images: Images, shape: tuple[int, ...]) -> Tensor:
        """Check images or frames and return them as the network takes them: normalised and channels-last."""
        if not isinstance(images, Tensor | np.ndarray):
            raise TypeError(
                f"images must be a tensor or an array, got a {type(images).__name__}; for files use "
                "shortcut_snn.cli.predict.predict(network, paths)"
            )
        batch = torch.as_tensor(images)
        batch = batch.unsqueeze(0) if batch.dim() == len(shape) else batch
        if tuple(batch.shape[1:]) != shape or not len(batch):
            expected = ", ".join(map(str, shape))
            raise ValueError(f"the network takes [N, {expected}] or [{expected}], got {list(batch.shape)}")
        if self.spec.inputs.kind == "static" and batch.dtype != torch.uint8:
            raise ValueError(f"images must be uint8, values of 0 to 255, got {batch.dtype}")
        x: Tensor = self.prepare(batch.to(self.prepare.mean.device)).to(self.dtype)
        return x.movedim(-3, -1).contiguous().movedim(-1, -3)


def for_inference(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy of a folded network, channels-last, with all layers but the last in a dtype."""
    network = copy.deepcopy(network)
    channels_last(network)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in layers[:-1]:
        layer.to(dtype)
    layers[-1].register_forward_pre_hook(_as_float32)
    return network.eval()


def _as_float32(module: nn.Module, args: tuple[Tensor, ...]) -> Tensor:
    # Not a lambda, so that a loaded network can be pickled.
    return args[0].float()
