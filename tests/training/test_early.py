"""Cheaper first epochs: what the network sees then, and that nothing else changes."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from shortcut_snn import nets
from shortcut_snn.cli import main
from shortcut_snn.training import Classification, RunFolder, Task, Training
from shortcut_snn.training.early import Early

from .small import assert_resumes_bit_identically, options, train
from .tiny import run

EARLY = {
    "training__progressive_resizing__fraction": 0.5,
    "training__progressive_resizing__size": 5,
    "training__progressive_resizing__time_steps": 1,
}


def seen(net: torch.nn.Module) -> list[tuple[bool, int, int]]:
    """Note for every batch whether it is one of training, its height, and the time steps."""
    found: list[tuple[bool, int, int]] = []
    net.register_forward_pre_hook(lambda m, args: found.append((m.training, args[0].shape[-1], m.time_steps)))
    return found


def test_only_the_first_training_steps_are_reduced(tmp_path: Path) -> None:
    net = nets.spiking_resnet8(2, 3, width=2, in_channels=1)
    data = torch.utils.data.TensorDataset(torch.rand(16, 1, 8, 8), torch.arange(16) % 2)
    batches = seen(net)
    training = Training(epochs=2, progressive_resizing=Early(0.5, size=6, time_steps=2), threads=1)
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    run(tmp_path / "run", Classification(net, training=training), (loader, loader, loader))
    assert [each[1:] for each in batches if each[0]] == [(6, 2)] * 4 + [(8, 3)] * 4
    assert {each[1:] for each in batches if not each[0]} == {(8, 3)}


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (4, 2, 2, 8, 8)], ids=["images", "recordings"])
def test_images_are_reduced_by_torch_s_antialiased_filter(shape: tuple[int, ...]) -> None:
    images = torch.rand(shape)
    reduced = Early(size=4).resize(images)
    assert reduced.shape == (*shape[:-2], 4, 4)
    one: Tensor = images.reshape(-1, *shape[-3:])[-1:]
    expected = torch.nn.functional.interpolate(one, (4, 4), mode="bilinear", antialias=True)
    torch.testing.assert_close(reduced.reshape(-1, *reduced.shape[-3:])[-1:], expected)
    assert Early(size=8).resize(images) is images


def test_a_run_with_cheaper_epochs_resumes_bit_identically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ("metrics.csv", "gradients.csv", "network.safetensors")
    assert_resumes_bit_identically(tmp_path, monkeypatch, *files, training__threads=1, training__epochs=3, **EARLY)
    assert "progressive_resizing" in RunFolder(tmp_path / "whole").read_entries()["training"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training__progressive_resizing__time_steps": 3}, "training.progressive_resizing.time_steps"),
        ({"training__progressive_resizing__fraction": 1}, "training.progressive_resizing.fraction"),
        ({"network__kind": "resnet8", "training__progressive_resizing__size": 0}, "training.progressive_resizing.size"),
    ],
    ids=["more steps", "all of the run", "no pixels"],
)
def test_invalid_entries_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], words: str
) -> None:
    assert train(tmp_path / "run", **changes) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("inputs", "target", "words"),
    [
        (torch.rand(24, 8, 1), torch.rand(8, 1), r"float32 \[24, 8, 1\]"),
        (torch.ones(8, 1, 8, 8, dtype=torch.int64), torch.ones(8), r"int64 \[8, 1, 8, 8\]"),
        ({"image": torch.rand(8, 1, 8, 8)}, torch.ones(8), "dict"),
        (torch.rand(4, 1, 8, 8), torch.ones(4, 8, 8), r"target \[4, 8, 8\]"),
        (torch.rand(4, 1, 8, 8), {"mask": torch.ones(4, 1, 8, 8)}, r"target \[4, 1, 8, 8\]"),
    ],
    ids=["sequences", "numbers", "a mapping", "a kind for each pixel", "masks"],
)
def test_a_size_needs_images_without_spatial_targets(inputs: object, target: object, words: str) -> None:
    with pytest.raises(ValueError, match=rf"training.progressive_resizing.size .*{words}"):
        Early(size=4).resize(inputs, target)
    assert Early(time_steps=1).resize(inputs, target) is inputs


@pytest.mark.parametrize("target", [torch.arange(8) % 2, torch.rand(8, 8), [torch.arange(8)]])
def test_other_targets_allow_a_size(target: object) -> None:
    for inputs in (torch.rand(8, 1, 8, 8), torch.ones(4, 8, 2, 8, 8, dtype=torch.uint8)):
        Early(size=4).resize(inputs, target)


def test_a_spatial_target_ends_the_run_before_its_first_step(tmp_path: Path) -> None:
    class Pixels(Task):
        def criterion(self, prediction: Tensor, target: Tensor) -> Tensor:
            return torch.nn.functional.mse_loss(prediction, target)

    data = torch.utils.data.TensorDataset(torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8))
    task = Pixels(
        torch.nn.Conv2d(1, 1, 3, padding=1), training=Training(epochs=2, progressive_resizing=Early(size=4), threads=1)
    )
    before = task.model.network.weight.clone()
    with pytest.raises(ValueError, match=r"training\.progressive_resizing\.size.*target"):
        run(tmp_path / "run", task, (data, data))
    assert torch.equal(task.model.network.weight, before)


def test_help_names_the_entries(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *options(**EARLY), "--print-recipe"]) == 0
    assert "progressive_resizing:" in capsys.readouterr().out
