"""Progressive resizing: what the network sees in the first steps, and that nothing else changes."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from shortcut_snn import nets
from shortcut_snn.training import Classification, RunFolder, Training
from shortcut_snn.training.options import ProgressiveResizing

from .small import assert_resumes_bit_identically, train
from .tiny import run

RESIZING = {
    "training__progressive_resizing__fraction": 0.5,
    "training__progressive_resizing__size": 5,
    "training__progressive_resizing__time_steps": 1,
}


def test_only_the_first_training_steps_are_reduced(tmp_path: Path) -> None:
    net = nets.spiking_resnet8(2, 3, width=2, in_channels=1)
    data = torch.utils.data.TensorDataset(torch.rand(16, 1, 8, 8), torch.arange(16) % 2)
    batches: list[tuple[bool, int, int]] = []
    net.register_forward_pre_hook(lambda m, args: batches.append((m.training, args[0].shape[-1], m.time_steps)))
    training = Training(epochs=2, progressive_resizing=ProgressiveResizing(0.5, size=6, time_steps=2), threads=1)
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    run(tmp_path / "run", Classification(net, training=training), (loader, loader, loader))
    assert [batch[1:] for batch in batches if batch[0]] == [(6, 2)] * 4 + [(8, 3)] * 4
    assert {batch[1:] for batch in batches if not batch[0]} == {(8, 3)}


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (4, 2, 2, 8, 8)], ids=["images", "recordings"])
def test_images_are_reduced_by_torchs_antialiased_filter(shape: tuple[int, ...]) -> None:
    images = torch.rand(shape)
    reduced = ProgressiveResizing(size=4).resize(images)
    assert reduced.shape == (*shape[:-2], 4, 4)
    one: Tensor = images.reshape(-1, *shape[-3:])[-1:]
    expected = torch.nn.functional.interpolate(one, (4, 4), mode="bilinear", antialias=True)
    torch.testing.assert_close(reduced.reshape(-1, *reduced.shape[-3:])[-1:], expected)
    assert ProgressiveResizing(size=8).resize(images) is images


def test_proportions_stay() -> None:
    assert ProgressiveResizing(size=10).resize(torch.rand(2, 1, 8, 16)).shape == (2, 1, 5, 10)
    assert ProgressiveResizing(size=2).resize(torch.rand(2, 3, 1, 32, 4)).shape == (2, 3, 1, 2, 1)


def test_fewer_time_steps_are_for_static_images() -> None:
    resizing, net = ProgressiveResizing(time_steps=1), nets.spiking_resnet8(10, 2, width=4)
    message = r"needs images \[N, C, H, W\].*got inputs \[2, 1, 3, 8, 8\] and SpikingResNet"
    with pytest.raises(ValueError, match=message), resizing.fewer_time_steps(net, torch.rand(2, 1, 3, 8, 8)):
        pass


def test_a_run_with_cheaper_epochs_resumes_bit_identically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ("metrics.csv", "gradients.csv", "network.safetensors")
    assert_resumes_bit_identically(tmp_path, monkeypatch, *files, training__threads=1, **RESIZING)
    assert "progressive_resizing" in RunFolder(tmp_path / "whole").read_entries()["training"]


@pytest.mark.parametrize(("entry", "value"), [("time_steps", 3), ("fraction", 1), ("size", 0)])
def test_invalid_entries_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], entry: str, value: int
) -> None:
    assert train(tmp_path / "run", **{f"training__progressive_resizing__{entry}": value}) == 2
    assert f"training.progressive_resizing.{entry}" in capsys.readouterr().err


def test_fewer_time_steps_need_another_neuron_than_psn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"neuron__kind": "psn", "neuron__surrogate__kind": "atan", "neuron__time_steps": 2}
    assert train(tmp_path / "run", **options, training__progressive_resizing__time_steps=1) == 1
    assert "progressive_resizing.time_steps need another neuron" in capsys.readouterr().err


@pytest.mark.parametrize("inputs", [torch.rand(24, 8, 1), {"image": torch.rand(8, 1, 8, 8)}], ids=["rows", "mapping"])
def test_a_size_needs_images(inputs: object) -> None:
    with pytest.raises(ValueError, match=r"training\.progressive_resizing\.size needs images"):
        ProgressiveResizing(size=4).resize(inputs)
    assert ProgressiveResizing(time_steps=1).resize(inputs) is inputs
