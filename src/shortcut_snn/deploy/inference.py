"""A trained network to be used: images in, classes out, in one call or frame by frame."""

from pathlib import Path
from typing import TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .describe import Description
from .network_file import ELSEWHERE, SUFFIX, read_folded
from .registry import WEIGHTS, find, push
from .runtime import Runtime, State
from .torch_runtime import Precision, TorchRuntime

Images: TypeAlias = "Tensor | NDArray[np.generic]"


class Inference:
    """A network with its data's classes and normalisation; it never trains.

    Args:
        runtime: what runs it.
        about: what it is.
        folder: where its file lies, for :meth:`push_to_hub`.

    Example:
        >>> import torch
        >>> from shortcut_snn.deploy import Description, Inference, fold
        >>> from shortcut_snn.deploy.torch_runtime import TorchRuntime
        >>> data = {"classes": ["cat", "dog"], "channels": 3, "image_size": [8, 8], "kind": "static"}
        >>> about = Description.from_about({
        ...     "network": {"kind": "resnet8", "width": 4, "time_steps": 2}, "neuron": "lif",
        ...     "data": data | {"mean": [0.5] * 3, "std": [0.25] * 3},
        ... })
        >>> network = Inference(TorchRuntime(fold(about.build()), about), about)
        >>> network.logits(torch.zeros(3, 8, 8, dtype=torch.uint8)).shape
        torch.Size([1, 2])
    """

    def __init__(self, runtime: Runtime, about: Description, folder: Path | None = None) -> None:
        self.runtime, self.about, self.folder = runtime, about, folder
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
            repository: ``owner/name``; made if it is not there.
            private: whether others cannot see a repository that is made; None: as the owner's account has it.
            token: of the account; by default the one that ``hf auth login`` keeps.

        Returns:
            Address of the commit.

        Raises:
            FileNotFoundError: there is no card beside the network's file, or no file.
            OSError: huggingface_hub is not installed, or the hub cannot be reached or refuses.
        """
        if self.folder is None:
            raise FileNotFoundError("this network comes from no file: shortcut-snn export writes one, with a card")
        return push(self.folder, repository, private, token)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.about.images.classes

    def logits(self, images: Images) -> Tensor:
        """Return logits ``[N, num_classes]``.

        Args:
            images: uint8 levels ``[N, C, H, W]``; for a network of events, frames of counts ``[N, T, C, H, W]``.
                Without N, a batch of one.

        Raises:
            ValueError: another shape or type than the network takes.
        """
        taken = self.about.images
        steps = () if taken.kind == "static" else (self.about.time_steps,)
        return self.runtime.whole(self._batch(images, (*steps, taken.channels, *taken.image_size)))

    def predict(self, images: Images) -> Tensor:
        """Return the index of the class of each image, ``[N]``; see :meth:`logits`."""
        return self.logits(images).argmax(-1)

    def step(self, frame: Images) -> Tensor:
        """Take the next frame of a stream and return the logits ``[N, num_classes]`` so far: their mean over the steps.

        Membrane potentials are kept for the next call. After T frames the logits are those that :meth:`logits` gives
        for these frames; a stream may go on for longer.

        Args:
            frame: ``[N, C, H, W]`` of counts of events, or of a static image, the same at every step.

        Raises:
            ValueError: another shape or type than the network takes, or another batch than the stream began with.
        """
        batch = self._batch(frame, (self.about.images.channels, *self.about.images.image_size))
        if self._sum is not None and len(self._sum) != len(batch):
            raise ValueError(f"the stream began with {len(self._sum)} frames at a time, got {len(batch)}; call reset()")
        logits, self._state = self.runtime.step(batch, self._state)
        self._sum = logits if self._sum is None else self._sum + logits
        self._steps += 1
        return self._sum / self._steps

    def reset(self) -> None:
        """Begin a new stream: membrane potentials of 0."""
        self._state, self._sum, self._steps = None, None, 0

    def _batch(self, given: Images, shape: tuple[int, ...]) -> Tensor:
        batch = torch.as_tensor(given)
        batch = batch.unsqueeze(0) if batch.dim() == len(shape) else batch
        if tuple(batch.shape[1:]) != shape or not len(batch):
            expected = ", ".join(map(str, shape))
            raise ValueError(f"the network takes [N, {expected}] or [{expected}], got {list(batch.shape)}")
        if self.about.images.kind == "static" and batch.dtype != torch.uint8:
            raise ValueError(f"images must be uint8, levels of 0 to 255, got {batch.dtype}")
        return batch


def load_file(path: Path, precision: Precision = "float32") -> Inference:
    """Open a network file.

    Args:
        path: of a ``.safetensors`` file, a run's or an exported one. It is checked as if it came from a stranger.
        precision: ``"float32"``, or ``"bfloat16"`` on processors that have it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, not one of ours, or of a format that is not opened here, or there is no such
            precision.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision is one of {', '.join(get_args(Precision))}, got {precision!r}")
    if not path.is_file():
        raise FileNotFoundError(f"no network file {path}")
    if path.suffix != SUFFIX:
        other = f"; it is for {ELSEWHERE[path.suffix]}" if path.suffix in ELSEWHERE else ""
        raise ValueError(f"{path} is no {SUFFIX} file{other}")
    network, about = read_folded(path)
    return Inference(TorchRuntime(network, about, precision), about, path.parent)


def load(
    name: str | Path, root: str | Path | None = None, revision: str | None = None, precision: Precision = "float32"
) -> Inference:
    """Return a trained network, ready to use.

    Args:
        name: a ``.safetensors`` file, a folder that holds ``network.safetensors`` (a run, or an
            export), a name (see :func:`names`), or ``owner/name`` on the Hugging Face hub.
        root: folder of named networks; by default a person's own (see :func:`models_folder`), then this package's.
        revision: of a network of the hub.
        precision: ``"float32"``, or ``"bfloat16"`` on processors that have it.

    Raises:
        FileNotFoundError: there is no such network.
        OSError: the hub cannot be reached, or its client is not installed.
        ValueError: the file is damaged or not one of ours.

    Example:
        >>> import torch
        >>> from shortcut_snn import load
        >>> network = load("digits-resnet18")
        >>> network.predict(torch.zeros(3, 1, 8, 8, dtype=torch.uint8)).shape
        torch.Size([3])
    """
    found = find(name, root, revision)
    if not found.is_dir():
        return load_file(found, precision)
    if not (found / WEIGHTS).is_file():
        raise FileNotFoundError(f"{found} holds no {WEIGHTS}: it is no run that has ended, nor an export for load()")
    return load_file(found / WEIGHTS, precision)
