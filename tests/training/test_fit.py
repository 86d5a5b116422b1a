"""The files of a run's folder."""

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from shortcut_snn import components, nets
from shortcut_snn.cli.evaluate import evaluate
from shortcut_snn.recipes import load_run, recipe_of

from .small import train

SHORT = {"training__epochs": 1, "data__train_limit": 120, "data__test_limit": 40, "network__width": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert train(folder) == 0
    return folder


def test_holds_everything(run):
    names = {path.name for path in run.iterdir()}
    assert names >= {
        "recipe.yaml", "environment.json", "metrics.csv", "gradients.csv", "timing.csv", "layers.csv", "energy.csv",
        "curves.png", "gradients.png", "checkpoint.ckpt", "network.safetensors", "best.safetensors", "result.json",
    }  # fmt: skip
    assert not [name for name in names if name.startswith(".")], "a temporary file was left"


def test_metrics_follow_the_schedule(run):
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    steps = 2 * int(rows[0]["step"])
    assert [int(row["step"]) for row in rows] == [steps // 2, steps]
    # Logged before the last step of each epoch, of `steps` in all; 0.25 falling linearly.
    for row in rows:
        assert float(row["lambda"]) == pytest.approx(0.25 * (1 - (int(row["step"]) - 1) / steps), abs=1e-6)
        assert 0 < float(row["firing_rate"]) < 1


def test_the_saved_networks_give_the_results_figures(run):
    result = json.loads((run / "result.json").read_text())
    assert (result["metric"], result["chance"], result["fraction"]) == ("accuracy", 0.1, True)
    for weights, split in (("last", "test"), ("best", "test"), ("last", "validation"), ("best", "validation")):
        found = evaluate(run, weights, split)
        assert found.metrics == pytest.approx(result[f"{split}_{weights}"], abs=1e-6), (weights, split)
    assert len(found.rates) == 7
    assert all(0 <= rate <= 1 for rate in found.rates.values())


def test_every_test_sample_is_counted_by_class(run):
    result = json.loads((run / "result.json").read_text())
    rows = list(csv.DictReader((run / "confusion.csv").open()))
    count = {(row["class"], row["predicted"]): int(row["count"]) for row in rows}
    assert result["samples"] == {"train": 270, "validation": 30, "test": sum(count.values())}
    right = sum(number for (label, taken), number in count.items() if label == taken)
    assert right / sum(count.values()) == pytest.approx(result["test_last"]["accuracy"], abs=1e-6)
    assert {label for label, _ in count} == {str(digit) for digit in range(10)}


def test_best_is_chosen_on_validation(run):
    result = json.loads((run / "result.json").read_text())
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    best = max(rows, key=lambda row: float(row["validation_accuracy"]))
    assert result["best_epoch"] == int(best["epoch"])
    assert result["best_chosen_on"] == "validation"


def test_a_run_is_opened_from_its_files(run):
    checkpoint = torch.load(run / "checkpoint.ckpt", weights_only=True)
    assert any(key.startswith("model.branches.") for key in checkpoint["state_dict"])
    recipe = recipe_of(run / "recipe.yaml")
    assert components.component_of(recipe.network).name == "resnet8"
    assert recipe.data.train_limit == 300
    network, again, about = load_run(run)
    assert again == recipe
    assert not network.training
    assert len(about["classes"]) == 10
    plain = nets.spiking_resnet8(10, 2, width=4, in_channels=1)
    assert load_file(run / "network.safetensors").keys() == plain.state_dict().keys()


def test_lambda_of_zero_trains_as_vanilla_does(tmp_path):
    """The weights are the same bit for bit."""
    zero = {"preset": "shortcut", "method__branches__branch_weight__value": 0}
    for name, changes in {
        "vanilla": {"preset": "vanilla"},
        "logit_sum": zero,
        "loss_sum": zero | {"method__objective__kind": "loss_sum"},
    }.items():
        assert train(tmp_path / name, **changes, **SHORT, task__label_smoothing=0.3) == 0
    # The loss of the network's own output is reported without label smoothing.
    (row,) = csv.DictReader((tmp_path / "vanilla" / "metrics.csv").open())
    assert row["train_main_loss"] != row["train_loss"]
    vanilla = load_file(tmp_path / "vanilla" / "network.safetensors")
    for name in ("logit_sum", "loss_sum"):
        other = load_file(tmp_path / name / "network.safetensors")
        assert all(torch.equal(vanilla[key], other[key]) for key in vanilla)


def test_without_validation_the_last_epoch_is_the_best(tmp_path):
    """With other options than those of the run above."""
    changes = {
        "data__validation": 0,
        "training__weight_decay_on": "all",
        "optimizer__kind": "sgd",
        "method__branches__taps": "blocks",
        "method__branches__branch_weight__kind": "cosine",
    }
    assert train(tmp_path / "run", **SHORT | changes) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["best_epoch"] == 1
    assert result["test_best"] == result["test_last"]
    assert result["validation_best"] is None
    assert result["best_chosen_on"].startswith("nothing")
    with pytest.raises(ValueError, match="has no validation data"):
        evaluate(tmp_path / "run", "last", "validation")


def test_an_epoch_takes_what_it_takes_without_compilation(run):
    seconds = [float(row["seconds"]) for row in csv.DictReader((run / "timing.csv").open())]
    assert json.loads((run / "result.json").read_text())["seconds_per_epoch"] == min(seconds)
