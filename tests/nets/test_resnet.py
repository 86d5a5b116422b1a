"""Networks as a whole: readouts, state, batches, dtypes, and refused inputs."""

import pytest
import torch

from shortcut_snn import nets

from .helpers import awake, by_name

NAMES = ["resnet18", "resnet19"]


def build(name: str = "resnet18", **options) -> nets.SpikingResNet:
    return by_name(name, **{"num_classes": 3, "time_steps": 3, "width": 4} | options)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_readout_sequence_averages_to_the_mean_readout(name: str, training: bool) -> None:
    frames = torch.rand(3, 4, 3, 8, 8)
    mean, sequence = awake(build(name), frames), build(name, readout="sequence")
    sequence.load_state_dict(mean.state_dict())
    mean.train(training), sequence.train(training)
    logits = sequence(frames)
    assert logits.shape == (3, 4, 3)
    torch.testing.assert_close(logits.mean(0), mean(frames), rtol=1e-6, atol=1e-6)
    assert not torch.equal(logits[0], logits[2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_dtype_is_kept(dtype: torch.dtype) -> None:
    network = build().to(dtype)
    assert network(torch.rand(2, 3, 8, 8, dtype=dtype)).dtype == dtype
    assert network.example_input().dtype == dtype
