"""Networks that spike as trained ones do, of every family, and what is said of them."""

import torch
from torch import Tensor, nn

from shortcut_snn import nets
from shortcut_snn.deploy import Description
from shortcut_snn.neurons import LIF, PLIF

# Name, kind of neuron, and options: every family there is.
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


def lively(network: nets.SpikingNetwork, channels: int = 3) -> nets.SpikingNetwork:
    """Give the norms weights, biases and running statistics that are no round numbers."""
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


def family(name: str, events: bool = False) -> tuple[nets.SpikingNetwork, Description]:
    """Return a network of a family and what is said of it."""
    network, kind, options = FAMILIES[name]
    about = description(events, network={"kind": network, **options}, neuron={"kind": kind})
    return lively(about.build(), about.images.channels), about


def small(events: bool = False, **options: object) -> tuple[nets.SpikingNetwork, Description]:
    """Return a network of two blocks, for what takes long; its description is another's but for its data."""
    channels = 2 if events else 3
    network = nets.SpikingResNet(
        [1, 1], [4, 8], CLASSES, STEPS, in_channels=channels, make_neuron=LIF,
        **options,  # type: ignore[arg-type]
    )  # fmt: skip
    return lively(network, channels), description(events)


def small_vgg(pooling: str) -> tuple[nets.SpikingNetwork, Description]:
    """Return a VGG of two stages with PLIF neurons; its description is another's but for its data."""
    network = nets.SpikingVGG(
        [[4], [8]], CLASSES, STEPS, pooling=pooling, make_neuron=lambda: PLIF(0.4),
    )  # type: ignore[arg-type]  # fmt: skip
    return lively(network), description()


def description(events: bool = False, network: object = (), neuron: object = "lif", **data: object) -> Description:
    """Return a description."""
    of_data = (
        {"channels": 2, "mean": [0.0] * 2, "std": [1.0] * 2, "kind": "events"}
        if events
        else {"channels": 3, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25], "kind": "static"}
    )
    classes = {"classes": [f"class {i}" for i in range(CLASSES)], "image_size": [SIDE, SIDE]}
    options = {"kind": "resnet8", "width": 4, "time_steps": STEPS, **dict(network)}  # type: ignore[call-overload]
    return Description.from_about({"network": options, "neuron": neuron, "data": {**classes, **of_data, **data}})


def batch(about: Description, count: int = 6) -> Tensor:
    """Return images, or frames of counts."""
    if about.images.kind == "static":
        return torch.randint(0, 256, (count, about.images.channels, *about.images.image_size), dtype=torch.uint8)
    rates = torch.full((count, about.time_steps, about.images.channels, *about.images.image_size), 0.7)
    return torch.poisson(rates).to(torch.uint8)
