"""A transformer of another library: SpikingJelly's Spikformer, as it comes, with branches behind its blocks."""

import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.model.spikformer import Spikformer
from torch import Tensor, nn

from shortcut_snn import Shortcut, attach

TAPS = ["blocks.0", "blocks.1"]


def spikformer() -> Spikformer:
    """36 tokens of 16 channels, 3 blocks."""
    torch.manual_seed(0)
    network = Spikformer(
        T=2,
        in_channels=1,
        img_size_h=24,
        img_size_w=24,
        patch_size=4,
        num_classes=5,
        embed_dims=16,
        num_heads=2,
        depths=3,
    )
    # So that attention is fed spikes, which its own weights, made for long training, let through later only.
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.constant_(module.bias, 0.5)
    return network


def images(count: int = 3) -> Tensor:
    return torch.rand(count, 1, 24, 24)


def wrapped(**options: object) -> Shortcut:
    return attach(spikformer(), TAPS, example=images(), **options)


def test_its_branches_are_the_means_over_time_and_tokens() -> None:
    model, x, seen = wrapped(), images(), []
    for name in TAPS:
        model.network.get_submodule(name).register_forward_hook(lambda _m, _a, out: seen.append(out))
    output = model(x)
    assert [each.shape for each in seen] == [(2, 3, 16, 6, 6)] * 2
    for branch, tapped, logits in zip(model.branches, seen, output.branches, strict=True):
        assert tapped.any()
        torch.testing.assert_close(logits, branch.classifier(tapped.mean((0, 3, 4))))
    functional.reset_net(model.network)
    torch.testing.assert_close(output.main, model.network(x).mean(0))


def test_other_heads_and_the_network_that_ships() -> None:
    model = wrapped(head="conv")
    assert [branch.shape for branch in model(images(4)).branches] == [(4, 5)] * 2
    keys = list(spikformer().state_dict())
    assert list(model.strip(check=images()).state_dict()) == keys
