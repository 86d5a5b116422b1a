"""Batch-norm folding: at inference a batch norm is a factor and a bias per channel of the layer before it.

1. Run the network once and record which operation reads the output of which convolution or linear layer.
2. Fold each batch norm into its layer if the two read and feed nothing else.
3. Replace each neuron by a :class:`~shortcut_snn.neurons.CurrentNeuron`, which takes the folded layer's current.
"""

import copy
from collections import Counter
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from .._utils.calls import example_of
from .._utils.module_state import hooked
from ..introspection.neurons import spiking_layers
from ..nets import SpikeConv2d
from ..neurons import Neuron, NormNeuron
from ..neurons.current_neuron import CurrentNeuron

M = TypeVar("M", bound=nn.Module)
# Classes whose forward is that of a batch norm: torch's, and SpikingJelly's of the same names.
_NORMS = frozenset({"_BatchNorm", "SyncBatchNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d"})


@torch.no_grad()
def fold(network: M, example: Tensor | None = None) -> M:
    """Return a copy for inference whose batch norms are folded into biases and weights.

    The outputs are equal up to rounding. The network itself does not change.

    Args:
        network: a network with neurons of this package.
        example: an input, for a forward pass on its device. On ``"meta"`` the pass computes nothing. The networks of
            this package have an example of their own.

    Raises:
        ValueError: the example is missing, the network has no neurons of this package or cannot be copied, or a batch
            norm cannot be folded; the message names it.

    Example:
        >>> import torch
        >>> from shortcut_snn import nets
        >>> network = nets.spiking_resnet8(10, 2, width=4).eval()
        >>> images = torch.randn(2, 3, 8, 8)
        >>> bool(torch.allclose(fold(network)(images), network(images), atol=1e-5))
        True
    """
    x: Tensor = example_of(network, example)
    name = type(network).__name__
    if not any(isinstance(module, Neuron) for module in network.modules()):
        raise ValueError(f"{name} has no neurons of this package: for an export wrap it, attach(net, [], example=...)")
    try:
        folded = copy.deepcopy(network).eval()
    except RuntimeError as error:
        # torch copies no weight that a hook computes, as that of a pruned layer.
        remedy = "make pruned or normalised weights permanent first, as by torch.nn.utils.prune.remove(layer, 'weight')"
        raise ValueError(f"{name} cannot be copied: {remedy}") from error
    norms = {path: module for path, module in folded.named_modules() if isinstance(module, _BatchNorm)}
    for path, norm in norms.items():
        if norm.running_mean is None or norm.running_var is None:
            raise ValueError(f"the batch norm {path} has no running statistics, so it cannot be folded")
        # A subclass may compute something else.
        if getattr(norm.forward, "__qualname__", "").removesuffix(".forward") not in _NORMS:
            reason = f"{type(norm).__name__} has a forward of its own; use one of torch.nn"
            raise ValueError(f"the batch norm {path} cannot be folded: {reason}")
    # Running a copy keeps the state of stateful layers out of the result.
    layer_of = _layers_before_norms(copy.deepcopy(folded).to(x.device), x)
    for path, norm in norms.items():
        if path not in layer_of:
            raise ValueError(f"the batch norm {path} cannot be folded: no layer passes its output to this norm only")
        layer = folded.get_submodule(layer_of[path])
        folded.set_submodule(layer_of[path], _fold_into(layer, norm))
        folded.set_submodule(path, nn.Identity())
    own = dict(folded.named_modules())
    for path, module in list(folded.named_modules(remove_duplicate=False)):
        # A neuron that is shared by several places has a membrane potential in each.
        if isinstance(module, Neuron) and path not in own:
            folded.set_submodule(path, copy.copy(module))
    for path, layer in spiking_layers(folded).items():
        neuron = layer if isinstance(layer, Neuron) else layer.neuron
        folded.set_submodule(path, CurrentNeuron(neuron))  # type: ignore[arg-type]
    return folded.requires_grad_(False)


def _layers_before_norms(network: nn.Module, example: Tensor) -> dict[str, str]:
    """Return for each batch norm, by path, the layer whose output it reads and nothing else reads."""
    layers: dict[str, nn.Module] = {}
    norms: dict[str, nn.Module] = {}
    for path, module in network.named_modules():
        # A subclass may compute something else, so only the exact classes count.
        if type(module) in (nn.Conv2d, nn.Linear) or isinstance(module, SpikeConv2d):
            layers[path] = module
        elif isinstance(module, NormNeuron):
            # Its kernel normalises itself, so the batch norm inside is never called.
            norms[f"{path}.norm"] = module
        elif isinstance(module, _BatchNorm):
            norms.setdefault(path, module)
    reads = _Reads()
    with hooked(layers, reads.layer_ends), hooked(norms, reads.norm_ends, reads.norm_starts), reads:
        network(example)
    by_layer = Counter(layer for layer, _ in reads.pairs)
    by_reader = Counter(reader for _, reader in reads.pairs)
    return {
        reader: layer
        for layer, reader in reads.pairs
        if layer in layers and reader in norms and by_layer[layer] == by_reader[reader] == 1
    }


class _Reads(TorchFunctionMode):
    """Record which operations read the outputs of layers during a forward pass.

    ``pairs`` lists the path of a layer and the path of the norm that reads its output, or ``""`` for any other
    operation. A view of an output, which shares its memory, counts as the output.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pairs: list[tuple[str, str]] = []
        # The layer, its output and the output's version. Keeping the output keeps its memory from being reused.
        self._outputs: dict[int, tuple[str, Tensor, int]] = {}
        self._layer_is_linear: dict[str, bool] = {}
        self._in_norm = False

    def layer_ends(self, path: str, layer: nn.Module, args: Any, output: Tensor) -> None:
        """Remember the output of a layer; a second call of the layer counts as a second reader."""
        if path in self._layer_is_linear:
            self.pairs.append((path, ""))
        self._layer_is_linear[path] = isinstance(layer, nn.Linear)
        self._outputs[_memory(output)] = (path, output, output._version)

    def norm_starts(self, path: str, norm: nn.Module, args: tuple[Any, ...]) -> None:
        """Record the layer whose output a batch norm reads, or ``""``."""
        x = args[0]
        layer, _, version = self._outputs.get(_memory(x), ("", None, 0))
        changed_in_place = x._version != version
        # A linear layer's channels are its last axis, a norm's the second, or the third with a time axis before it.
        channel_axis = 2 if isinstance(norm, NormNeuron) else 1
        other_axis = self._layer_is_linear.get(layer, False) and x.dim() != channel_axis + 1
        self.pairs.append(("" if changed_in_place or other_axis else layer, path))
        self._in_norm = True

    def norm_ends(self, path: str, norm: nn.Module, args: Any, output: Any) -> None:
        """Let further operations count as readers again."""
        self._in_norm = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if isinstance(output, Tensor) and not self._in_norm:
            for x in tree_leaves((args, kwargs)):
                if isinstance(x, Tensor) and _memory(x) in self._outputs and _memory(x) != _memory(output):
                    self.pairs.append((self._outputs[_memory(x)][0], ""))
        return output


def _memory(x: Tensor) -> int:
    """Return a number that all views of a tensor share, on the meta device too."""
    return int(x.untyped_storage()._cdata)


def _fold_into(layer: Any, norm: Any) -> nn.Module:
    """Return a convolution or linear layer that computes ``norm(layer(x))``."""
    folded: nn.Module
    if isinstance(layer, nn.Conv2d):
        # A subclass of SpikeConv2d may be made for layers without bias, which the folded one has.
        kind: Any = SpikeConv2d if isinstance(layer, SpikeConv2d) else nn.Conv2d
        folded = kind(
            layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation,
            layer.groups, padding_mode=layer.padding_mode, device="meta",
        )  # fmt: skip
    else:
        folded = nn.Linear(layer.in_features, layer.out_features, device="meta")

    def double(x: Any) -> Any:
        # Only the result is rounded.
        return None if x is None else x.detach().double()

    # The function for convolutions serves linear layers too; the one for linear layers needs an affine norm.
    fused = fuse_conv_bn_weights(
        double(layer.weight), double(layer.bias), double(norm.running_mean), double(norm.running_var), norm.eps,
        double(norm.weight), double(norm.bias),
    )  # fmt: skip
    folded.weight, folded.bias = (nn.Parameter(x.to(layer.weight.dtype)) for x in fused)
    return folded
