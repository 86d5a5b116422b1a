"""Trained networks in use: images in, classes out, for whole batches or frame by frame."""

from pathlib import Path
from typing import TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .hub import push
from .registry import WEIGHTS, find
from .runtime import Runtime, State
from .safetensors_export import read_folded
from .spec import NetworkSpec
from .torch_runtime import Precision, TorchRuntime

Images: TypeAlias = "Tensor | NDArray[np.generic]"
_OTHER_READERS = {".onnx": "onnxruntime", ".nir": "nirtorch", ".pt2": "torch.export.load, if you trust the file"}


class Inference:
    """A trained network with the classes and the normalisation of its data.

    Args:
        runtime: the runtime of the network.
        spec: the network's specification.
        folder: folder of the network's file, for :meth:`push_to_hub`.

    Example:
        >>> import torch
        >>> from shortcut_snn import load
        >>> network = load("digits-resnet18")
        >>> network.logits(torch.zeros(1, 8, 8, dtype=torch.uint8)).shape
        torch.Size([1, 10])
    """

    def __init__(self, runtime: Runtime, spec: NetworkSpec, folder: Path | None = None) -> None:
        self.runtime, self.spec, self.folder = runtime, spec, folder
        self._state: State | None = None
        self._sum: Tensor | None = None
        self._steps = 0

    @classmethod
    def from_pretrained(
        cls, name: str | Path, revision: str | None = None, precision: Precision = "float32"
    ) -> "Inference":
        """Return a trained network by its name, its folder or its repository; see :func:`~.load`."""
        return load(name, revision=revision, precision=precision)

    def push_to_hub(self, repository: str, private: bool | None = None, token: str | None = None) -> str:
        """Upload the network's file and card, as ``shortcut-snn export`` writes them, to the Hugging Face hub.

        Args:
            repository: ``owner/name``; created if it does not exist.
            private: visibility of a repository that is created; None: the default of the owner's account.
            token: access token; by default the one that ``hf auth login`` stores.

        Returns:
            Address of the commit.

        Raises:
            FileNotFoundError: the network has no file or no card.
            OSError: huggingface_hub is not installed, or the hub cannot be reached or refuses.
        """
        if self.folder is None:
            raise FileNotFoundError("this network was not loaded from a file: write one with shortcut-snn export")
        return push(self.folder, repository, private, token)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.spec.inputs.classes

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
        return self.runtime.logits(self._as_batch(images, (*steps, inputs.channels, *inputs.image_size)))

    def predict(self, images: Images) -> Tensor:
        """Return the index of the class of each image, ``[N]``; see :meth:`logits`."""
        return self.logits(images).argmax(-1)

    def step(self, frame: Images) -> Tensor:
        """Take the next frame of a stream and return the mean of the logits so far, ``[N, num_classes]``.

        The membrane potentials are kept for the next call. After T frames the mean equals :meth:`logits` of these
        frames. A stream may be longer than T frames.

        Args:
            frame: ``[N, C, H, W]``, counts of events or the same image at every step.

        Raises:
            ValueError: the frame has a wrong shape or type, or another batch size than the stream.
        """
        batch = self._as_batch(frame, (self.spec.inputs.channels, *self.spec.inputs.image_size))
        if self._sum is not None and len(self._sum) != len(batch):
            raise ValueError(f"the stream began with {len(self._sum)} frames at a time, got {len(batch)}; call reset()")
        logits, self._state = self.runtime.step(batch, self._state)
        self._sum = logits if self._sum is None else self._sum + logits
        self._steps += 1
        return self._sum / self._steps

    def reset(self) -> None:
        """Start a new stream, with membrane potentials of 0."""
        self._state, self._sum, self._steps = None, None, 0

    def _as_batch(self, images: Images, shape: tuple[int, ...]) -> Tensor:
        batch = torch.as_tensor(images)
        batch = batch.unsqueeze(0) if batch.dim() == len(shape) else batch
        if tuple(batch.shape[1:]) != shape or not len(batch):
            expected = ", ".join(map(str, shape))
            raise ValueError(f"the network takes [N, {expected}] or [{expected}], got {list(batch.shape)}")
        if self.spec.inputs.kind == "static" and batch.dtype != torch.uint8:
            raise ValueError(f"images must be uint8, values of 0 to 255, got {batch.dtype}")
        return batch


def load(
    name: str | Path, root: str | Path | None = None, revision: str | None = None, precision: Precision = "float32"
) -> Inference:
    """Return a trained network, ready to use.

    Args:
        name: a ``.safetensors`` file, the folder of a run or of an export, a name (see :func:`names`), or
            ``owner/name`` on the Hugging Face hub.
        root: folder of named networks; by default the user's (see :func:`models_folder`), then this package's.
        revision: branch, tag or commit of a network on the hub.
        precision: ``"float32"``, or ``"bfloat16"`` on processors that support it.

    Raises:
        FileNotFoundError: the network does not exist.
        OSError: the hub cannot be reached, or huggingface_hub is not installed.
        ValueError: the file is damaged, or of another format.

    Example:
        >>> import torch
        >>> from shortcut_snn import load
        >>> network = load("digits-resnet18")
        >>> network.predict(torch.zeros(3, 1, 8, 8, dtype=torch.uint8)).shape
        torch.Size([3])
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision is one of {', '.join(get_args(Precision))}, got {precision!r}")
    path = find(name, root, revision)
    if path.is_dir():
        path = path / WEIGHTS
        if not path.is_file():
            raise FileNotFoundError(f"{path.parent} holds no {WEIGHTS}: it is not a finished run, nor an export")
    if path.suffix != ".safetensors":
        reader = f"; open it with {_OTHER_READERS[path.suffix]}" if path.suffix in _OTHER_READERS else ""
        raise ValueError(f"{path} is not a safetensors file{reader}")
    network, spec = read_folded(path)
    return Inference(TorchRuntime(network, spec, precision), spec, path.parent)
