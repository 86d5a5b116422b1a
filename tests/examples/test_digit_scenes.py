"""The example of a dense task: it learns, with branches that keep space, and all commands take it."""

import csv
import json
import sys
from pathlib import Path

import pytest
import torch

from shortcut_snn import components
from shortcut_snn.cli import main
from shortcut_snn.recipes import build, recipe_of
from shortcut_snn.training.callbacks import SaveRun

from ..registered import forgetting
from ..training.same import assert_same_run

ROOT = Path(__file__).parents[2]
FILE, CONFIG = ROOT / "examples" / "digit_scenes.py", ROOT / "examples" / "digit_scenes.yaml"
WORDS = ["--import", str(FILE), "--config", str(CONFIG)]
WORDS += ["--data.samples", "320", "--data.digits", "2", "--network.width", "8", "--training.epochs", "5"]
WORDS += ["--data.batch_size", "16"]


@pytest.fixture(scope="module", autouse=True)
def forgotten():
    """Leave the process as one that has never imported the example."""
    with forgetting():
        yield
    sys.modules.pop("digit_scenes", None)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes") / "run"
    assert main(["train", "--out", str(folder), *WORDS]) == 0
    return folder


def iou_of_background() -> float:
    """The metric on the test scenes where everything is taken for background, which most pixels are."""
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
    found = task.metrics(None, prediction, torch.tensor([[[0, 1], [2, 2]]]))
    # Background 1 of 1, the first kind 1 of 2, the second 1 of 2, the third nowhere.
    assert found["iou"].item() == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert found["pixels"].item() == 0.75


def test_its_branches_keep_space(run):
    task, data = build(recipe_of(str(CONFIG), {"data": {"samples": 40}, "network": {"width": 4}}))
    images, target = task.prepare_batch(data.sample(3))
    output = task.model(images)
    assert task.model.taps.names == ["layer1", "layer2", "layer3", "layer4"]
    assert [branch.classifier.in_features for branch in task.model.branches] == [4, 8, 16, 8]
    assert {tuple(each.shape) for each in (output.main, *output.branches)} == {(3, 5, *target.shape[1:])}


def test_it_resumes_bit_identically(run, tmp_path, monkeypatch):
    done = SaveRun.on_train_epoch_end

    def kill(self, trainer, *given, **named):
        done(self, trainer, *given, **named)
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(SaveRun, "on_train_epoch_end", kill)
        with pytest.raises(RuntimeError, match="killed"):
            main(["train", "--out", str(tmp_path / "run"), *WORDS])
    assert main(["train", "--out", str(tmp_path / "run"), *WORDS, "--resume"]) == 0
    assert_same_run(tmp_path / "run", run)


def test_evaluate_and_report_tell_its_metric(run, tmp_path, capsys):
    iou = json.loads((run / "result.json").read_text())["test_last"]["iou"]
    assert main(["evaluate", str(run), "--import", str(FILE)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"test iou of {run} (last epoch): {100 * iou:.2f} %"
    assert main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 0
    assert "iou" in (tmp_path / "page.html").read_text()
