"""Spiking transformers against plain torch operations, branches, initialisation, and refused options."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from shortcut_snn import nets
from shortcut_snn.initialisation import initialise
from shortcut_snn.measurement import examine
from shortcut_snn.method import every_block, stage_ends
from shortcut_snn.neurons import LIF, ATan, use_backend

from ..method.wrapped import wrapped
from .by_hand import assert_equal, conv, normalised, randomise, spike


def layer(module: nn.Module, x: Tensor, stride: int = 1) -> Tensor:
    """A convolution and its norm, and its neuron if it has one."""
    padding = module.conv.kernel_size[0] // 2
    if isinstance(module, nets.Stem) or hasattr(module, "spike"):
        return spike(normalised(module.spike.norm, conv(module.conv, x, stride, padding)))
    return normalised(module.norm, conv(module.conv, x, stride, padding))


def embedding(module: nn.Module, x: Tensor, block: str, stride: int) -> Tensor:
    """The residual block before a stage."""
    inside = spike(x) if block == "ms" else x
    hidden = spike(
        normalised(getattr(module, "spike2" if block == "ms" else "spike1").norm, conv(module.conv1, inside, stride))
    )
    out = conv(module.conv2, hidden)
    out = normalised(module.norm2, out) if block == "ms" else spike(normalised(module.spike2.norm, out))
    return out + (x if isinstance(module.project, nn.Identity) else layer(module.project, x, stride))


def attention(module: nn.Module, x: Tensor) -> Tensor:
    """Either kind, head by head, over tokens ``[T, N, L, C]``."""
    heads = module.heads
    tokens_of = module.query_key if isinstance(module, nets.TokenAttention) else module.query_key_value
    parts = layer(tokens_of, x).flatten(3).transpose(2, 3).split(x.shape[2], dim=-1)
    out = []
    for head in zip(*(part.chunk(heads, -1) for part in parts), strict=True):
        if len(head) == 2:
            query, key = head
            out.append(spike(query.sum(-1, keepdim=True)) * key)
        else:
            query, key, value = head
            # In the other order: every token with every other.
            weights = torch.einsum("tnqc,tnkc->tnqk", query, key)
            out.append(spike(torch.einsum("tnqk,tnkc->tnqc", weights, value) * 8 / x.shape[-1] / x.shape[-2]))
    return torch.cat(out, -1).transpose(2, 3).reshape(x.shape)


def by_hand(network: nets.SpikingTransformer, frames: Tensor, block: str) -> Tensor:
    """Logits of a transformer in training mode."""
    enter = spike if block == "ms" else (lambda x: x)
    x = layer(network.stem, frames)
    for number, stage in enumerate(network.stage_names):
        x = embedding(network.get_submodule(f"embed{number + 1}"), x, block, 2 if number else 1)
        for unit in network.get_submodule(stage):
            x = x + layer(unit.mix, attention(unit.attention, enter(x)))
            x = x + layer(unit.reduce, layer(unit.expand, enter(x)))
    return enter(x).mean((0, 3, 4)) @ network.classifier.weight.T + network.classifier.bias


@pytest.mark.parametrize("block", ["sew", "ms"])
def test_values_and_gradients_equal_plain_operations(block: str) -> None:
    make = partial(LIF, surrogate=ATan())
    network = nets.SpikingTransformer(
        4, 3, width=6, blocks=(1, 2), heads=2, expansion=2, in_channels=2, make_neuron=make, block=block
    ).double()
    randomise(network)
    frames = torch.rand(3, 2, 2, 8, 8, dtype=torch.float64)
    logits, expected = network(frames), by_hand(network, frames, block)
    assert logits.std() > 0
    assert_equal(logits, expected, list(network.parameters()))


@pytest.mark.parametrize("block", ["sew", "ms"])
def test_fused_neurons_over_channels_last_tokens(block: str) -> None:
    """The kernels on channels-last memory against plain PyTorch on contiguous memory."""
    network = nets.SpikingTransformer(5, 2, width=8, heads=2, block=block)
    images, results = torch.randn(4, 3, 16, 16), []
    for backend, layout in (("eager", torch.contiguous_format), ("auto", torch.channels_last)):
        network.to(memory_format=layout).zero_grad()
        with use_backend(backend):
            logits = network(images.contiguous(memory_format=layout))
            logits.square().sum().backward()
        results.append([logits.detach(), *(parameter.grad for parameter in network.parameters())])
    for eager, fused in zip(*results, strict=True):
        assert (fused - eager).norm() < 1e-3 * eager.norm()


def test_branches_tap_stages_or_blocks() -> None:
    network = nets.SpikingTransformer(3, 2, width=4, blocks=(1, 2, 2))
    assert stage_ends(network) == ["layer1", "layer2"]
    blocks = ["layer1.0", "layer2.0", "layer2.1", "layer3.0", "layer3.1"]
    assert every_block(network) == blocks[:-1]
    assert all(isinstance(network.get_submodule(name), nets.TransformerBlock) for name in blocks)
    model = wrapped(network, "blocks", num_classes=3)
    assert [branch.classifier.in_features for branch in model.branches] == [4, 8, 8, 16]
    convolving = wrapped(network, "stages", num_classes=3, head="conv")
    assert [branch.shape for branch in convolving(torch.rand(2, 3, 12, 12)).branches] == [(2, 3)] * 2


@pytest.mark.parametrize("block", ["sew", "ms"])
def test_an_initialised_transformer_keeps_its_gradient_and_its_rates(block: str) -> None:
    network = nets.SpikingTransformer(5, 2, width=8, heads=2, block=block, blocks=(1, 1, 3))
    batch = torch.randn(16, 3, 16, 16), torch.arange(16) % 5
    initialise(network, *batch)
    after = examine(network, [batch])
    # The input is lost in SEW blocks, and with it the even gradients.
    assert 0.05 < after.factors[0] < 20
    assert all(0.02 < layer.rate < 0.6 for layer in after.layers)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block": "plain"}, "plain.*sew, ms"),
        ({"heads": 3}, "heads must divide"),
        ({"heads": 0}, "heads"),
        ({"expansion": 0}, "expansion"),
        ({"blocks": (1, 0)}, r"blocks\[1\]"),
        ({"blocks": ()}, "blocks"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nets.SpikingTransformer(3, 2, **{"width": 4, **options})
