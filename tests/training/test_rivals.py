"""Every related method trains from its name alone, and its run holds what any run does."""

import csv
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from shortcut_snn import nets
from shortcut_snn.cli import main
from shortcut_snn.cli.evaluate import evaluate
from shortcut_snn.cli.recipes import PAPER_METHODS
from shortcut_snn.recipes import changed, load_run
from shortcut_snn.recipes.entries import PRESETS

from .small import assert_resumes_bit_identically, options, train

RELATED = [name for name in PRESETS if name not in PAPER_METHODS]
SMALL = {"data__train_limit": 120, "data__test_limit": 40, "training__epochs": 1, "network__width": 2}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name in ["vanilla", *RELATED]:
        assert train(folder / name, preset=name, **SMALL) == 0
    return folder


@pytest.mark.parametrize("name", RELATED)
def test_it_trains_and_is_not_vanilla(runs: Path, name: str) -> None:
    row = next(csv.DictReader((runs / name / "metrics.csv").open()))
    assert 0 < float(row["train_loss"]) < 20
    state, vanilla = (load_file(runs / run / "network.safetensors") for run in (name, "vanilla"))
    assert all(value.isfinite().all() for value in state.values())
    assert state.keys() != vanilla.keys() or any(not torch.equal(state[key], vanilla[key]) for key in state)
    result = json.loads((runs / name / "result.json").read_text())
    assert 0 < result["gradient_ratio_last_epoch"] < math.inf


@pytest.mark.parametrize("name", RELATED)
def test_the_deployed_network_is_a_plain_one_of_the_runs_accuracy(runs: Path, name: str) -> None:
    network, recipe, _ = load_run(runs / name)
    assert changed(recipe, name) == recipe
    assert recipe.method.initialise == (runs / name / "surrogates.json").exists()
    block = name if name in ("sew", "ms") else "basic"
    plain = nets.spiking_resnet8(10, 2, width=2, in_channels=1, block=block)
    assert network.state_dict().keys() == plain.state_dict().keys()
    result = json.loads((runs / name / "result.json").read_text())
    assert evaluate(runs / name).metrics == pytest.approx(result["test_last"], abs=1e-6)


def test_the_cost_of_a_step_is_measured(runs: Path) -> None:
    (row,) = csv.DictReader((runs / "vanilla" / "timing.csv").open())
    result = json.loads((runs / "vanilla" / "result.json").read_text())
    assert float(row["seconds"]) > float(row["seconds_per_step"]) == result["seconds_per_step"] > 0
    if Path("/proc/self/status").exists():
        # A step of the smallest network holds more than its weights.
        weights = sum(value.nbytes for value in load_file(runs / "vanilla" / "network.safetensors").values())
        assert int(row["peak_bytes_per_step"]) == result["peak_bytes_per_step"] > weights


def test_a_resumed_run_of_every_steps_logits_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = SMALL | {"training__epochs": 2, "preset": "tet", "training__threads": 1}
    files = "network.safetensors", "metrics.csv", "gradients.csv"
    assert_resumes_bit_identically(tmp_path, monkeypatch, *files, **entries)


@pytest.mark.parametrize("name", ["tet", "sltt"])
def test_gradients_of_a_method_without_branches_are_its_own(tmp_path: Path, name: str) -> None:
    # A rectangle this narrow explodes, so that remedies are tried too.
    changes = {"neuron__surrogate__kind": "rectangle", "neuron__surrogate__width": 0.3} | SMALL
    assert main(["gradients", "--out", str(tmp_path / "g"), *options(preset=name, **changes)]) == 0
    header, *rows = (tmp_path / "g" / "gradients.csv").read_text().splitlines()
    assert header == "layer,without,with"
    for row in rows:
        _, without, own = row.split(",")
        assert 0 < float(without) != float(own) > 0
