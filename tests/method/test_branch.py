"""What a branch sees of a tapped output: its mean over time and space."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from shortcut_snn.method.branch import Branch, pool


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_without_time_or_space_are_a_copy_in_full_precision(dtype: torch.dtype) -> None:
    features = torch.ones(2, 3, dtype=dtype)
    pooled = pool(features, None)
    features.mul_(0)
    assert pooled.dtype == torch.float32
    assert pooled.sum() == 6


def test_pooling_before_the_linear_layer_gives_what_pooling_behind_it_gives() -> None:
    features = torch.randn(3, 2, 5, 4, 4, dtype=torch.float64)
    branch = Branch(5, 7).double()
    pointwise = nn.Conv2d(5, 7, 1).double()
    pointwise.weight.data = branch.classifier.weight.data[:, :, None, None]
    pointwise.bias.data = branch.classifier.bias.data
    behind = pointwise(features.flatten(0, 1)).unflatten(0, (3, 2)).mean((0, 3, 4))
    torch.testing.assert_close(branch(pool(features, 0)), behind, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("shape", "time_axis"), [((3, 4), 0), ((3, 4), 1), ((4,), None), ((), 0)])
def test_an_output_with_too_few_axes_is_refused(shape: tuple[int, ...], time_axis: int | None) -> None:
    with pytest.raises(ValueError, match=f"time_axis={time_axis} needs an output of at least"):
        pool(torch.zeros(shape), time_axis)


def test_an_unknown_time_axis_is_refused() -> None:
    with pytest.raises(ValueError, match=r"time_axis must be 0, 1 or None.*got 2"):
        pool(torch.zeros(2, 2, 2), 2)
