"""Networks of every family, active as trained ones are, and their specifications."""

import torch
from torch import Tensor, nn

from shortcut_snn import nets
from shortcut_snn._utils.module_state import hooked
from shortcut_snn.deploy import NetworkSpec
from shortcut_snn.deploy.spec import Prepare
from shortcut_snn.introspection.neurons import spiking_layers
from shortcut_snn.neurons import LIF, PLIF

# Name, kind of neuron, and options.
FAMILIES = {
    "basic": ("resnet8", "lif", {}),
    "sew": ("resnet18", "lif", {"block": "sew"}),
    "ms": ("resnet18", "lif", {"block": "ms"}),
    "plain": ("resnet18", "lif", {"block": "plain"}),
    "hidden": ("resnet19", "lif", {}),
    "large stem": ("resnet18", "lif", {"stem": "large"}),
    "vgg, max pooling": ("vgg11", "lif", {}),
    "vgg, average pooling": ("vggsnn", "lif", {}),
    "qkformer": ("qkformer", "lif", {"block": "sew", "blocks": [1, 1], "heads": 2}),
    "qkformer, ms": ("qkformer", "lif", {"block": "ms", "blocks": [1, 1]}),
    "plif": ("resnet8", "plif", {}),
    "if": ("resnet8", "if", {}),
}
STEPS, SIDE, CLASSES = 2, 16, 10


def activated(network: nets.SpikingNetwork, channels: int = 3) -> nets.SpikingNetwork:
    """Give the batch norms arbitrary weights, biases and running statistics, so that the neurons spike."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.5
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.4, 0.2)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            if channels == 2:
                network(torch.poisson(torch.full((network.time_steps, 8, channels, SIDE, SIDE), 0.7)))
            else:
                network(torch.randn(8, channels, SIDE, SIDE))
    return network.eval()


def family(name: str, events: bool = False, **more: object) -> tuple[nets.SpikingNetwork, NetworkSpec]:
    """Return a network of a family and its specification."""
    network, kind, options = FAMILIES[name]
    spec = make_spec(events, network={"kind": network, **options, **more}, neuron={"kind": kind})
    return activated(spec.build(), spec.inputs.channels), spec


def small(
    events: bool = False, kind: type[nets.SpikingResNet] = nets.SpikingResNet, **options: object
) -> tuple[nets.SpikingNetwork, NetworkSpec]:
    """Return a network of two blocks, for slow exports, and a specification that is right about its inputs only."""
    channels = 2 if events else 3
    network = kind(
        [1, 1], CLASSES, STEPS, width=4, in_channels=channels,
        **{"make_neuron": LIF, **options},  # type: ignore[arg-type]
    )  # fmt: skip
    return activated(network, channels), make_spec(events)


def small_vgg(pooling: str) -> tuple[nets.SpikingNetwork, NetworkSpec]:
    """Return a VGG of two stages with PLIF neurons, and a specification that is right about its inputs only."""
    network = nets.SpikingVGG(
        [[1], [2]], pooling, CLASSES, STEPS, width=4, make_neuron=lambda: PLIF(0.4),
    )  # type: ignore[arg-type]  # fmt: skip
    return activated(network), make_spec()


def make_spec(events: bool = False, network: object = (), neuron: object = "lif", **data: object) -> NetworkSpec:
    """Return a specification."""
    inputs = (
        {"channels": 2, "mean": [0.0] * 2, "std": [1.0] * 2, "kind": "events"}
        if events
        else {"channels": 3, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25], "kind": "static"}
    )
    classes = {"classes": [f"class {i}" for i in range(CLASSES)], "image_size": [SIDE, SIDE]}
    options = {"kind": "resnet8", "width": 4, "time_steps": STEPS, **dict(network)}  # type: ignore[call-overload]
    return NetworkSpec.from_dict({"network": options, "neuron": neuron, "data": {**classes, **inputs, **data}})


def batch(spec: NetworkSpec, count: int = 6) -> Tensor:
    """Return images, or frames of counts."""
    inputs = spec.inputs
    if inputs.kind == "static":
        return torch.randint(0, 256, (count, inputs.channels, *inputs.image_size), dtype=torch.uint8)
    rates = torch.full((count, spec.time_steps, inputs.channels, *inputs.image_size), 0.7)
    return torch.poisson(rates).to(torch.uint8)


def firing_rates(network: nn.Module, spec: NetworkSpec, images: Tensor) -> dict[str, float]:
    """Return the mean of the spikes of each layer of neurons."""
    rates: dict[str, float] = {}

    def record(name: str, module: nn.Module, args: object, spikes: Tensor) -> None:
        rates[name] = spikes.mean().item()

    with torch.no_grad(), hooked(spiking_layers(network), record):
        network(Prepare(spec)(images))
    return rates
