"""Every method that is not the paper's trains from its name alone, and its run holds what any run does."""

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
from shortcut_snn.recipes import PRESETS, changed, load_run

from .small import assert_resumes_bit_identically, options, train

RIVALS = [name for name in PRESETS if name not in PAPER_METHODS]
ONE = {"data__train_limit": 150, "data__test_limit": 50, "training__epochs": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name in ["vanilla", *RIVALS]:
        assert train(folder / name, preset=name, **ONE) == 0
    return folder


@pytest.mark.parametrize("name", RIVALS)
def test_trains_and_is_not_vanilla(runs: Path, name: str) -> None:
    row = next(csv.DictReader((runs / name / "metrics.csv").open()))
    assert 0 < float(row["train_loss"]) < 20
    ours, vanilla = (load_file(runs / run / "network.safetensors") for run in (name, "vanilla"))
    assert all(value.isfinite().all() for value in ours.values())
    assert ours.keys() != vanilla.keys() or any(not torch.equal(ours[key], vanilla[key]) for key in ours)
    result = json.loads((runs / name / "result.json").read_text())
    assert 0 < result["gradient_ratio_last_epoch"] < math.inf


@pytest.mark.parametrize("name", RIVALS)
def test_what_ships_is_a_plain_network_that_gives_the_run_s_accuracy(runs: Path, name: str) -> None:
    network, recipe, _ = load_run(runs / name)
    assert changed(recipe, name) == recipe
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    block = name if name in ("sew", "ms") else "basic"
    plain = nets.spiking_resnet8(10, 2, width=4, in_channels=1, block=block)
    assert network.state_dict().keys() == plain.state_dict().keys()
    result = json.loads((runs / name / "result.json").read_text())
    assert evaluate(runs / name).metrics == pytest.approx(result["test_last"], abs=1e-6)


@pytest.mark.parametrize("name", ["vanilla", *RIVALS])
def test_what_a_step_costs(runs: Path, name: str) -> None:
    (row,) = csv.DictReader((runs / name / "timing.csv").open())
    result = json.loads((runs / name / "result.json").read_text())
    assert float(row["seconds_per_step"]) == result["seconds_per_step"] > 0
    assert float(row["seconds"]) > float(row["seconds_per_step"])
    if Path("/proc/self/status").exists():
        # A step of the smallest of these networks holds more than its weights.
        weights = sum(value.nbytes for value in load_file(runs / name / "network.safetensors").values())
        assert int(row["peak_bytes_per_step"]) == result["peak_bytes_per_step"] > weights


@pytest.mark.parametrize("name", ["tet", "calibrated"])
def test_a_resumed_run_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    given = ONE | {"training__epochs": 2, "preset": name, "training__threads": 1}
    files = "network.safetensors", "metrics.csv", "gradients.csv"
    assert_resumes_bit_identically(tmp_path, monkeypatch, *files, **given)


@pytest.mark.parametrize("name", ["tet", "sew", "sltt", "rate", "calibrated"])
def test_gradients_can_be_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    # A rectangle this narrow explodes, so that what would help is looked for too.
    changes = {"neuron__surrogate__kind": "rectangle", "neuron__surrogate__width": 0.3, "data__train_limit": 60}
    assert main(["gradients", "--out", str(tmp_path / "g"), *options(preset=name, **changes)]) == 0
    assert "first layer / last" in capsys.readouterr().out


def test_calibrated_says_its_widths(runs: Path) -> None:
    assert len(set(json.loads((runs / "calibrated" / "surrogates.json").read_text()).values())) == 6
    assert not (runs / "tet" / "surrogates.json").exists()


@pytest.mark.parametrize("name", ["tet", "sltt"])
def test_surrogates_can_be_calibrated_first(tmp_path: Path, name: str) -> None:
    assert train(tmp_path / "run", preset=name, method__calibrate="true", **ONE) == 0
    assert json.loads((tmp_path / "run" / "surrogates.json").read_text())


@pytest.mark.parametrize("method", ["tet", "sltt", "rate"])
def test_gradients_of_a_method_without_branches_are_its_own(method: str, tmp_path: Path) -> None:
    assert main(["gradients", "--out", str(tmp_path / "g"), *options(preset=method)]) == 0
    header, *rows = (tmp_path / "g" / "gradients.csv").read_text().splitlines()
    assert header == "layer,without,with"
    for row in rows:
        _, without, own = row.split(",")
        assert 0 < float(without) != float(own) > 0
