"""PyTorch's layers and norms: where their channels are, and how their outputs are scaled for probing."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..method.layout import replaced
from ..method.placement import stages
from ..method.taps import tensor_in
from .adapters import ADAPTERS

Gains = dict[str, tuple[Tensor, Tensor]]
"""The mean and the factor by which the output of a layer is normalised, per channel."""
_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)
_CHANNEL_AXES: dict[int, tuple[type[nn.Module], ...]] = {
    -1: (nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.Embedding, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention),
    -2: (nn.Conv1d, nn.ConvTranspose1d),
    -3: (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d),
    -4: (nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d),
}
_WIDTHS = ("num_features", "num_channels", "out_channels", "out_features", "embedding_dim", "normalized_shape")
NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)


def is_layer(module: nn.Module) -> bool:
    """Return whether a module has weights that mix channels."""
    return isinstance(module, (*_LAYERS, nn.RNNBase, nn.RNNCellBase))


def holds_matrix(module: nn.Module) -> bool:
    """Return whether a module itself, not one inside it, has a parameter of more than one axis."""
    return any(p is not None and p.dim() > 1 for p in vars(module).get("_parameters", {}).values())


def stages_span_most(network: nn.Module) -> bool:
    """Return whether the stages of a network hold most of its layers, and none is a single layer."""
    names = stages(network)
    layers = [name for name, module in nn.Module.named_modules(network) if is_layer(module)]
    held = [name for name in layers if name.startswith(tuple(f"{stage}." for stage in names))]
    return len(names) > 1 and 2 * len(held) >= len(layers) and set(names).isdisjoint(layers)


def has_weights(module: nn.Module) -> bool:
    """Return whether a module is a layer or a norm, whose output is scaled."""
    return isinstance(module, (*_LAYERS, *_CHANNEL_AXES[-1], *NORMS))


def channel_axis_of(module: nn.Module, shape: Sequence[int]) -> int | None:
    """Return the channel axis of a layer's or norm's output, counted from the end; None if unknown."""
    axis, widths = _usual_channel_axis(module, len(shape)), [getattr(module, name, None) for name in _WIDTHS]
    width = next((width[-1] if isinstance(width, tuple) else width for width in widths if width is not None), None)
    packages = ("torch", *(adapter.package for adapter in ADAPTERS))
    if axis is None or width is None or type(module).forward.__module__.partition(".")[0] in packages:
        return axis
    # A forward of its own may have its channels elsewhere, as in [N, C, T] or [N, C, H, W, T].
    fitting = [other - len(shape) for other, size in enumerate(shape) if other and size == width]
    if len(fitting) > 1:
        fitting = [other for other in {axis, 1 - len(shape)} if other in fitting]
    return fitting[0] if len(fitting) == 1 else None


def _usual_channel_axis(module: nn.Module, dims: int) -> int | None:
    for axis, kinds in _CHANNEL_AXES.items():
        if isinstance(module, kinds):
            return axis
    if isinstance(module, NORMS):
        # SpikingJelly's one-dimensional norms take [T, N, C, L] in multi-step mode.
        axis = 2 if getattr(module, "step_mode", "s") == "m" else 1
        return axis - dims if dims > axis else None
    return None


def unsilence(module: nn.Module) -> None:
    """Replace parameters that are all zero, and give batch norms statistics, so that samples do not mix."""
    for tensor in vars(module).get("_parameters", {}).values():
        if tensor is None or tensor.is_meta or not tensor.is_floating_point() or tensor.any():
            continue
        if isinstance(module, NORMS) and tensor is module.weight:
            tensor.data.fill_(1)
        elif isinstance(module, _LAYERS) and tensor is module.weight:
            tensor.data.copy_(torch.rand(tensor.shape, generator=torch.Generator().manual_seed(0), device="cpu") - 0.5)
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
        reference = module.weight if module.weight is not None else torch.zeros(module.num_features)
        module.running_mean = torch.zeros_like(reference.detach())
        module.running_var = torch.ones_like(reference.detach())
        module.track_running_stats = True


def scaled(name: str, module: nn.Module, output: Any, gains: Gains, learn: bool) -> Any:
    """Normalise a layer's output per channel to a deviation of 2, so that neurons after it spike now and then."""
    tensor = tensor_in(output)
    if tensor is None or not tensor.is_floating_point() or tensor.numel() < 2:
        return output
    # One layer may be called with sequences and with single steps.
    key = f"{name}, {tensor.dim()} axes"
    if key not in gains and learn:
        channels = channel_axis_of(module, tensor.shape)
        others = [axis for axis in range(tensor.dim()) if channels is None or axis != channels % tensor.dim()]
        mean = tensor.float().mean(others, keepdim=True)
        deviation = (tensor.float() - mean).square().mean(others, keepdim=True).sqrt()
        # A channel that does not vary is left alone: only rounding errors would be amplified.
        constant = deviation <= 1e-3 * tensor.float().abs().mean()
        if not constant.all():
            gains[key] = torch.where(constant, 0, mean), torch.where(constant, 1, 2 / deviation)
    if key not in gains:
        return output
    mean, gain = gains[key]
    return replaced(output, (0,), ((tensor - mean) * gain).to(tensor.dtype))
