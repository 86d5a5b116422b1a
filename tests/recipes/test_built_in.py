"""Every built-in recipe: its network takes a training step, and the list shows its accuracies."""

import io
from collections.abc import Iterator
from functools import cache

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from shortcut_snn.cli import main
from shortcut_snn.cli.recipes import PAPER_METHODS as METHODS
from shortcut_snn.cli.recipes import accuracies
from shortcut_snn.components import component_of
from shortcut_snn.recipes import build, changed, recipe_of
from shortcut_snn.recipes.entries import built_in
from shortcut_snn.training.run import initialise_task

from ..data.events.recordings import nmnist, write_cifar10dvs, write_nmnist, write_words
from ..data.files import colour_images, make_official, write_cifar10, write_cifar100

NAMES = list(built_in())
# The accuracies of the paper: vanilla, shortcut, evolutionary.
PAPER = {
    "cifar100-resnet18-t2": (71.42, 73.68, 74.02),
    "cifar100-resnet18-t4": (72.22, 74.78, 74.83),
    "cifar100-resnet34-t2": (69.82, 74.06, None),
    "cifar100-resnet34-t4": (69.98, 75.67, None),
    "cifar100-resnet19-t2": (None, None, 77.79),
    "cifar10-resnet18-t4": (None, None, 93.92),
    "cifar10-resnet19-t2": (None, None, 95.36),
    "imagenet-resnet18-t4": (None, None, 65.12),
    "imagenet-resnet34-t4": (None, None, 68.14),
    "cifar10dvs-resnet18-t10": (None, 82.00, 83.30),
}


@cache
def recipe(name: str):
    return recipe_of(name)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Small files in the official layouts, with all classes, under the folders that recipes name."""
    base = tmp_path_factory.mktemp("data")
    images, labels = colour_images(110)
    cifar10 = write_cifar10(base / "cifar10", images[:60], labels[:60], 10)
    cifar100 = write_cifar100(base / "cifar100", images, np.arange(110) % 100, 10)
    write_cifar10dvs(base / "cifar10dvs")
    write_nmnist(base / "nmnist", nmnist(60), 40)
    for part in ("train", "test"):
        write_words(base / "shd" / f"shd_{part}.h5", list(range(20)) * 2, 20)
    file = io.BytesIO()
    Image.fromarray(images[0]).resize((50, 40)).save(file, "JPEG")
    for part in ("train", "val"):
        for number in range(1000):
            folder = base / "imagenet" / part / f"n{number:08d}"
            folder.mkdir(parents=True)
            (folder / "1.JPEG").write_bytes(file.getvalue())
    with pytest.MonkeyPatch.context() as patch:
        make_official(patch, datasets.CIFAR10, cifar10)
        make_official(patch, datasets.CIFAR100, cifar100)
        yield {f"data/{folder.name}": str(folder) for folder in base.iterdir()}


@pytest.mark.filterwarnings("ignore:::lightning", "ignore:.* recordings of N-MNIST's")
@pytest.mark.parametrize("name", NAMES)
def test_one_training_step_of_a_thin_network(name: str, roots: dict[str, str]) -> None:
    full_size = recipe(name)
    changes = {"batch_size": 2, "workers": 0}
    if root := getattr(full_size.data, "root", None):
        changes["root"] = roots[root]
    if hasattr(full_size.data, "cache"):
        changes["cache"] = "off"
    width = max(full_size.network.width // 8, 16 if component_of(full_size.network).name == "qkformer" else 4)
    module, data = build(changed(full_size, {"data": changes, "network": {"width": width}}))
    model, network = module.model, module.model.network
    classes = {"cifar100": 100, "imagenet": 1000, "shd": 20}.get(name.split("-")[0], 10)
    assert network.classifier.out_features == classes
    before = {key: weight.detach().clone() for key, weight in model.named_parameters() if weight.dim() > 1}
    trainer = pl.Trainer(
        accelerator="cpu", fast_dev_run=1, logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    if module.method.initialise:
        initialise_task(module, data)
    trainer.fit(module, data.loaders(0).train)
    assert trainer.global_step == 1
    assert torch.isfinite(trainer.callback_metrics["train_loss"])
    for key, weight in model.named_parameters():
        assert weight.isfinite().all(), key
        assert key not in before or not torch.equal(weight, before[key]), key


@pytest.mark.parametrize("name", PAPER)
def test_recipes_of_the_paper_have_its_settings(name: str) -> None:
    data, network, steps = name.split("-")
    row = recipe(name)
    kinds = {part: component_of(getattr(row, part)).name for part in ("data", "network", "optimizer", "neuron")}
    assert kinds["network"] == network
    assert f"t{row.network.time_steps}" == steps
    assert row.network.width == recipe_of({"network": network}).network.width
    assert kinds["data"] == ("folder" if data == "imagenet" else data)
    assert (kinds["optimizer"], row.optimizer.lr) == ("adamw", 0.004 if data == "imagenet" else 0.01)
    assert row.optimizer.weight_decay == 0.02
    assert (row.data.batch_size, row.training.epochs) == (128, 300)
    assert row.method == recipe_of("evolutionary").method
    augmentations = {"imagenet": ("resized_crop", "flip"), "cifar10dvs": ("flip", "roll")}
    applied = tuple(component_of(step).name for step in row.data.augment)
    assert applied == augmentations.get(data, ("crop", "flip", "autoaugment"))
    assert (kinds["neuron"], row.neuron.decay, row.neuron.threshold) == ("lif", 0.5, 1.0)


def test_accuracies_of_the_paper() -> None:
    table = accuracies("paper")
    assert {name: tuple(row.get(method) for method in METHODS) for name, row in table.items()} == PAPER


def test_our_accuracies_have_a_command() -> None:
    for name, entry in accuracies("ours").items():
        assert name in NAMES
        assert entry["seeds"] >= 1
        assert f"--config {name}" in entry["command"]
        assert set(entry) - {"seeds", "command"} <= set(METHODS)


def test_the_list_shows_both_accuracies(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {
        cells[1]: cells[2:-1] for cells in ([cell.strip() for cell in line.split("|")] for line in lines) if cells[1:]
    }
    assert set(rows) > set(NAMES)
    assert rows["cifar100-resnet34-t4"][:4] == ["cifar100", "resnet34", "4", "69.98 / 75.67 / -"]
    assert rows["imagenet-resnet18-t4"][:4] == ["imagenet", "resnet18", "4", "- / - / 65.12"]
    assert rows["digits"][:4] == ["digits", "resnet18, width 16", "4", ""]
    for name in NAMES:
        assert bool(rows[name][4]) == (name in accuracies("ours")), "a figure only where there was a run"
