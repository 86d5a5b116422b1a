"""The example of a dense task: it learns, with branches that keep the spatial axes."""

import csv
import json
import sys
from pathlib import Path

import pytest
import torch

from shortcut_snn import components
from shortcut_snn.cli import main
from shortcut_snn.recipes import build, recipe_of

from ..registered import forgetting

ROOT = Path(__file__).parents[2]
FILE, CONFIG = ROOT / "examples" / "digit_scenes.py", ROOT / "examples" / "digit_scenes.yaml"
WORDS = ["--import", str(FILE), "--config", str(CONFIG)]
WORDS += ["--data.samples", "320", "--data.digits", "2", "--network.width", "8", "--training.epochs", "5"]
WORDS += ["--data.batch_size", "16"]


@pytest.fixture(scope="module", autouse=True)
def forgotten():
    """Remove what the example registers."""
    with forgetting():
        yield
    sys.modules.pop("digit_scenes", None)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes") / "run"
    assert main(["train", "--out", str(folder), *WORDS]) == 0
    return folder


def iou_of_background() -> float:
    """Return the metric of a prediction of background everywhere, which is right for most pixels."""
    scenes = components.data.make("digit_scenes", samples=320, digits=2).load().test
    kinds = torch.stack([scenes[i][1] for i in range(len(scenes))])
    background = torch.eye(3)[torch.zeros_like(kinds)].movedim(-1, 1)
    return sys.modules["digit_scenes"].Segmentation.metrics(None, background, kinds)["iou"].item()


def test_it_learns_with_branches(run):
    result = json.loads((run / "result.json").read_text())
    assert (result["metric"], result["higher_is_better"], result["fraction"]) == ("iou", True, True)
    assert result["test_last"]["iou"] > iou_of_background() + 0.1
    assert result["stripped_equals_trained"]
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert float(rows[0]["lambda"]) > 0
    assert float(rows[0]["validation_iou"]) < float(rows[-1]["validation_iou"])


def test_the_metric_by_hand(run):
    task = sys.modules["digit_scenes"].Segmentation
    prediction = torch.nn.functional.one_hot(torch.tensor([[[0, 1], [1, 2]]]), 4).movedim(-1, 1).float()
    scores = task.metrics(None, prediction, torch.tensor([[[0, 1], [2, 2]]]))
    # Background 1 of 1, the first kind 1 of 2, the second 1 of 2; the third does not occur.
    assert scores["iou"].item() == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert scores["pixels"].item() == 0.75


def test_branches_keep_the_spatial_axes(run):
    task, data = build(recipe_of(str(CONFIG), {"data": {"samples": 40}, "network": {"width": 4}}))
    images, target = task.prepare_batch(data.sample(3))
    output = task.model(images)
    assert task.model.taps.names == ["layer1", "layer2", "layer3", "layer4"]
    assert [branch.classifier.in_features for branch in task.model.branches] == [4, 8, 16, 8]
    assert {tuple(each.shape) for each in (output.main, *output.branches)} == {(3, 5, *target.shape[1:])}
