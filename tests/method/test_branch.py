"""What a branch sees of a tapped output: its mean over time and space."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from shortcut_snn import LossSum, components, wrap
from shortcut_snn.components.entries import read
from shortcut_snn.method import ConvHead, DenseHead, Layout, Tap
from shortcut_snn.method.heads import pool

from .toys import small
from .wrapped import wrapped


@given(space=st.lists(st.integers(1, 4), max_size=3), time_axis=st.sampled_from([0, 1, None]))
def test_pooling_averages_everything_but_batch_and_channels(space: list[int], time_axis: int | None) -> None:
    features = torch.randn(3, 2, 5, *space, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    arranged = {0: features, 1: features.transpose(0, 1), None: features[0]}[time_axis]
    frames = features if time_axis is not None else features[:1]
    expected = torch.stack([frame.flatten(2).mean(2) for frame in frames.unflatten(2, (5, -1)).flatten(3)]).mean(0)
    torch.testing.assert_close(pool(arranged, time_axis), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_mean_of_half_precision_spikes_loses_no_bits(dtype: torch.dtype) -> None:
    spikes = (torch.rand(4, 2, 3, 32, 32) < 0.1).to(dtype)
    pooled = pool(spikes, 0)
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled, spikes.double().mean((0, 3, 4)).float(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("shape", "time_axis"), [((3, 4), 0), ((3, 4), 1), ((4,), None), ((), 0)])
def test_an_output_with_too_few_axes_is_refused(shape: tuple[int, ...], time_axis: int | None) -> None:
    with pytest.raises(ValueError, match=f"time_axis={time_axis} needs an output of at least"):
        pool(torch.zeros(shape), time_axis)


@pytest.mark.parametrize("init_std", [0.0, 0.5, "1/n"])
def test_a_linear_head_starts_as_wide_as_one_says(init_std: float | str) -> None:
    head = read(components.head, {"kind": "linear", "init_std": init_std}, "head")(400, 50)
    assert not head.classifier.bias.any()
    expected = 1 / 400 if init_std == "1/n" else init_std
    assert head.classifier.weight.std().item() == pytest.approx(expected, rel=0.05)


def test_a_conv_head_on_rates() -> None:
    model = wrapped(small(), ["layer1"], num_classes=3, head={"kind": "conv", "width": 7})
    (head,) = model.branches
    assert isinstance(head, ConvHead)
    assert head.conv.weight.shape == (7, 4, 3, 3)
    spikes = []
    model.network.layer1.register_forward_hook(lambda module, args, output: spikes.append(output))
    (logits,) = model(torch.rand(4, 3, 8, 8)).branches
    torch.testing.assert_close(logits, head(spikes[0].mean(0)))
    logits.sum().backward()
    assert model.network.stem.conv.weight.grad.any()
    with pytest.raises(ValueError, match="head='linear'"):
        ConvHead(4, 3)(torch.rand(2, 4))


def test_an_unpooled_tap_is_averaged_over_time_alone() -> None:
    features = torch.rand(3, 2, 5, 4, 4)
    torch.testing.assert_close(pool(features, 0, space=False), features.mean(0))
    once = pool(features[0], None, space=False)
    assert torch.equal(once, features[0])
    assert once.data_ptr() != features.data_ptr()


class Segments(nn.Module):
    """Predicts two numbers for every pixel, its second stage at half the size."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.layer2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 2, stride=2)
        self.up = nn.ConvTranspose2d(5, 2, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(self.layer2(self.layer1(x).relu()).relu())


def test_dense_predictions_have_dense_branches_of_their_size() -> None:
    network, x = Segments(), torch.rand(3, 3, 8, 8)
    model = wrapped(network, ["layer1", "layer2"], num_classes=2, example=x, time_axis=None)
    assert all(isinstance(head, DenseHead) for head in model.branches)
    output = model(x)
    assert [y.shape for y in output.branches] == [(3, 2, 8, 8)] * 2
    pointwise = model.branches[0].classifier
    torch.testing.assert_close(output.branches[0][1, :, 2, 3], pointwise(network.layer1(x)[1, :, 2, 3]))
    LossSum()(output, torch.randint(2, (3, 8, 8)), 0.5).backward()
    assert network.layer1.weight.grad.any()


def test_logits_of_every_step_are_no_map_where_samples_are_as_many_as_classes() -> None:
    network, x = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), torch.rand(4, 3, 6)
    output = wrap(network, Layout(num_classes=3, taps=(Tap("1"),)), example=x)(x)
    assert (output.main.shape, output.branches[0].shape) == ((4, 3, 3), (3, 3))


def test_a_head_of_ones_own_may_be_any_function() -> None:
    model = wrapped(small(), num_classes=3, head=lambda channels, outputs: nn.Linear(channels, outputs, bias=False))
    assert [head.bias for head in model.branches] == [None] * 3
    with pytest.raises(ValueError, match="unknown head 'quadratic'; available: linear, conv, dense"):
        wrapped(small(), num_classes=3, head="quadratic")
