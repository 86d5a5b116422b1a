"""Batch normalisation folded into the layers before it: at inference it is a factor and a summand a channel."""

import copy
from collections import Counter
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from ..inspection import hooked
from ..nets import SpikeConv2d
from ..neurons import CurrentNeuron, Neuron, NormNeuron

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def fold(network: M, example: Tensor | None = None) -> M:
    """Return a copy for inference: no batch norms, biases in their place; same outputs to rounding.

    The copy's neurons are :class:`~shortcut_snn.neurons.CurrentNeuron`; the network itself is left as it is.

    Args:
        network: with neurons of this library.
        example: a batch as the network takes it, for a dry pass, which runs on its device (``"meta"`` costs nothing);
            one of our networks has its own.

    Raises:
        ValueError: no example where one is needed, no neurons of this library, a batch norm without running statistics,
            or one that follows no layer it can go into, or not it alone; the message names it.

    Example:
        >>> import torch
        >>> from shortcut_snn import nets
        >>> network = nets.spiking_resnet8(10, 2, width=4).eval()
        >>> images = torch.randn(2, 3, 8, 8)
        >>> bool(torch.allclose(fold(network)(images), network(images), atol=1e-5))
        True
    """
    if example is None and not hasattr(network, "example_input"):
        raise ValueError(
            f"a {type(network).__name__} does not say what it takes: pass example=..., a batch as it takes it, whose "
            "values do not matter"
        )
    if not any(isinstance(module, Neuron) for module in network.modules()):
        raise ValueError(f"{type(network).__name__} has no neurons of this library, which folding and exports need")
    folded = copy.deepcopy(network).eval()
    norms = {path: module for path, module in folded.named_modules() if isinstance(module, _BatchNorm)}
    for path, norm in norms.items():
        if norm.running_mean is None or norm.running_var is None:
            raise ValueError(f"the batch norm {path} has no running statistics, so it cannot be folded")
    example = network.example_input() if example is None else example  # type: ignore[operator]
    follows = _follows(copy.deepcopy(folded).to(example.device), example)
    for path, norm in norms.items():
        if list(follows.values()).count(follows.get(path, "")) != 1:
            raise ValueError(f"the batch norm {path} follows no layer that it can be folded into")
        _replace(folded, follows[path], _with_norm(folded.get_submodule(follows[path]), norm))
        _replace(folded, path, nn.Identity())
    done: list[str] = []
    for path, module in list(folded.named_modules()):
        # What a neuron is made of is its own business.
        known = isinstance(module, NormNeuron | CurrentNeuron | Neuron)
        if known and not any(path.startswith(f"{each}.") for each in done):
            done.append(path)
            _replace(folded, path, CurrentNeuron(module if isinstance(module, Neuron) else module.neuron))
    return folded.requires_grad_(False)


def _follows(network: nn.Module, example: Tensor) -> dict[str, str]:
    """Return which layer's output each batch norm takes, by their paths, as seen in a dry pass."""
    made: dict[int, tuple[str, Tensor, int]] = {}
    follows: dict[str, str] = {}
    calls: Counter[str] = Counter()
    elsewhere: set[str] = set()
    inside: list[str] = []

    class Uses(TorchFunctionMode):
        """Notes which layers' outputs something takes that is no norm and no view of them."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor) and not inside:
                for given in tree_leaves((args, kwargs)):
                    if isinstance(given, Tensor) and memory(given) in made and memory(given) != memory(out):
                        elsewhere.add(made[memory(given)][0])
            return out

    def memory(x: Tensor) -> int:
        # The same for all views of an output, and for tensors that hold nothing too.
        return int(x.untyped_storage()._cdata)

    def note_output(path: str, module: nn.Module, args: Any, out: Tensor) -> None:
        # The tensor is kept, so that no other gets its memory.
        calls[path] += 1
        made[memory(out)] = (path, out, out._version)

    def note_input(path: str, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        calls[path] += 1
        inside.append(path)
        layer, _, version = made.get(memory(args[0]), ("", None, 0))
        # Channels of a linear layer are its last axis, of a norm the second, or the third where it takes time too.
        axes = 3 if isinstance(module, NormNeuron) else 2
        alike = not isinstance(layers.get(layer), nn.Linear) or args[0].dim() == axes
        # Nothing has worked on it in place.
        if layer and alike and args[0]._version == version:
            follows[path] = layer

    def leave(path: str, module: nn.Module, args: Any, out: Any) -> None:
        inside.pop()

    layers: dict[str, nn.Module] = {}
    norms: dict[str, nn.Module] = {}
    for path, module in network.named_modules():
        # Of another class, a layer may do more.
        if type(module) in (nn.Conv2d, nn.Linear) or isinstance(module, SpikeConv2d):
            layers[path] = module
        elif isinstance(module, NormNeuron):
            norms[f"{path}.norm"] = module
        elif isinstance(module, _BatchNorm):
            norms.setdefault(path, module)
    with hooked(layers, note_output), hooked(norms, leave, note_input), Uses():
        network(example)
    # Nor may one of the two be called twice, or what the layer gives go past its norm too.
    return {
        norm: layer for norm, layer in follows.items() if calls[norm] == calls[layer] == 1 and layer not in elsewhere
    }


def _with_norm(layer: Any, norm: Any) -> nn.Module:
    """Return a convolution or linear layer that does what a layer and the norm behind it do."""
    # In double precision, so that only the result is rounded.
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    if layer.bias is not None:
        shift = shift + layer.bias.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    weight = layer.weight
    # The plain layer: ours may leave a bias out, and what they keep for a backward pass is not needed.
    convolves = isinstance(layer, nn.Conv2d)
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    given = {name: getattr(layer, name) for name in (names if convolves else ("in_features", "out_features"))}
    new: nn.Module = (nn.Conv2d if convolves else nn.Linear)(**given, device="meta")
    columns = scale.view(-1, *[1] * (weight.dim() - 1))
    new.weight = nn.Parameter((weight.double() * columns).to(weight.dtype))
    new.bias = nn.Parameter(shift.to(weight.dtype))
    return new


def _replace(network: nn.Module, path: str, new: nn.Module) -> None:
    owner, _, name = path.rpartition(".")
    setattr(network.get_submodule(owner), name, new)
