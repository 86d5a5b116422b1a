"""The protocol of research/studies/claim.py: its plan, its table, and that it resumes."""

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from research.studies import claim, claim_tables, paper
from shortcut_snn import initialise, nets
from shortcut_snn.recipes import recipe_of

TINY = [
    "--set",
    "network.kind=resnet8",
    "network.width=2",
    "network.time_steps=2",
    "data.batch_size=10",
    "training.precision=fp32",
]
TINY += ["network.block=ms", "neuron.surrogate.kind=triangle"]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.filterwarnings("ignore:::lightning")
def test_a_table_from_end_to_end_and_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["paper", str(tmp_path), "--data", str(data), "--only", "resnet18-authors", "--threads", "1"]
    command += ["--methods", "vanilla", "loss_sum", "--seeds", "1", "--epochs", "1", "--tune-epochs", "3"]
    command += ["--rates", "1e-6", "0.1", "--extend", "0", *TINY]
    assert claim.main(command) == 0
    table = tmp_path / "paper.csv"
    found = rows(table)
    assert [(row["phase"], row["method"], row["lr"]) for row in found[:4]] == [
        ("tune", method, lr) for method in ("vanilla", "loss_sum") for lr in ("1e-06", "0.1")
    ]
    for method in ("vanilla", "loss_sum"):
        tried = {row["lr"]: float(row["validation_last"]) for row in found[:4] if row["method"] == method}
        assert tried["0.1"] > tried["1e-06"]
    finals = [row for row in found if row["phase"] == "final"]
    assert {row["method"] for row in finals} == {"vanilla", "loss_sum", claim.EQUAL_TIME}
    for row in finals:
        assert row["lr"] == "0.1"
        assert int(row["steps"]) == 20 * int(row["epochs"])
        assert 0 <= float(row["test_last"]) <= 1
        assert row["validation_last"] == row["failed"] == ""
    assert all(row["test_last"] == "" for row in found[:4]), "nothing of the test set where something is chosen"

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("it was run again")

    monkeypatch.setattr(claim, "train", never)
    before = table.read_bytes()
    assert claim.main(command) == 0
    assert table.read_bytes() == before

    capsys.readouterr()
    claim_tables.main([str(table)])
    printed = capsys.readouterr().out
    assert "loss_sum" in printed
    assert f"{100 * float(finals[0]['test_last']):.2f}" in printed


def test_a_run_that_fails_is_a_line_and_is_not_chosen(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []

    def train(recipe: claim.Recipe, folder: Path, **options: object) -> dict[str, object]:
        called.append(recipe.optimizer.lr)
        raise claim.NumericsError("the loss is nan at step 3 (epoch 1); try something else")

    monkeypatch.setattr(claim, "train", train)
    command = ["paper", str(tmp_path), "--data", str(data), "--only", "resnet18-paper", "--methods", "vanilla"]
    command += ["--seeds", "1", "--epochs", "1", "--extend", "0", "--rates", "0.1"]
    for _ in range(2):
        assert claim.main([*command, "0.2"]) == 0
    assert called == [0.1, 0.2, 0.1], "twice to tune, once in the end"
    assert [row["failed"] for row in rows(tmp_path / "paper.csv")] == ["the loss is nan at step 3 (epoch 1)"] * 3
    assert claim.main(command) == 0
    assert len(called) == 3, "a single rate is not tuned"


def test_rows_of_other_data_are_not_taken(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(recipe: claim.Recipe, folder: Path, **options: object) -> dict[str, object]:
        raise claim.NumericsError("the loss is nan")

    monkeypatch.setattr(claim, "train", train)
    other = tmp_path / "other.npz"
    with np.load(data) as arrays:
        np.savez(other, **{**arrays, "x_train": 255 - arrays["x_train"]})
    words = ["--only", "resnet18-paper", "--methods", "vanilla", "--seeds", "1", "--epochs", "1", "--rates", "0.1"]
    words.append("--dead")
    assert claim.main(["paper", str(tmp_path), "--data", str(data), *words]) == 0
    before = (tmp_path / "paper.csv").read_bytes()
    assert claim.main(["paper", str(tmp_path), "--data", str(other), *words]) == 2
    assert "runs on other data than" in capsys.readouterr().err
    assert (tmp_path / "paper.csv").read_bytes() == before
    # The same images in another place are the same data.
    assert claim.main(["paper", str(tmp_path), "--data", str(shutil.copy(data, tmp_path / "moved.npz")), *words]) == 0


def test_the_search_goes_beyond_the_best_rate_at_the_edge(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pretended(lab: claim.Lab, run: claim.Run) -> claim.Row:
        return {"lr": str(run.rate), "validation_last": str(1 - abs(run.rate - 3))}

    monkeypatch.setattr(claim.Lab, "result", pretended)
    options = claim.argparse.Namespace(
        out=tmp_path, data=data, threads=1, set=[], rates=None, extend=2, tune_epochs=1, epochs=1
    )
    best = claim.Lab("paper", options).tune("setting", "vanilla", {"network": {"kind": "resnet18"}})
    assert float(best["lr"]) == 3.0


@pytest.mark.parametrize(
    ("table", "setting"), [("recipes", "*"), ("paper", "*"), ("depth", "1*-ms"), ("transformer", "*")]
)
def test_a_plan_is_at_least_5000_steps_a_run(
    table: str, setting: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert claim.main([table, str(tmp_path), "--data", str(data), "--list", "--seeds", "1", "--only", setting]) == 0
    lines = capsys.readouterr().out.splitlines()
    finals = [line.split() for line in lines if line.startswith("final")]
    assert finals
    assert all(int(words[-2]) >= 5000 * int(words[-4]) for words in finals)
    assert not any(tmp_path.iterdir())


def test_tables_and_the_picture_of_depth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["phase", "setting", "method", "lr", "seed", "epochs", "chance", "failed", "test_last", "seconds_per_step"]
    accuracies = {"vanilla": (0.5, 0.7), "loss_sum": (0.6, 0.9), claim.EQUAL_TIME: (0.6, None)}
    found = [
        ["final", f"{depth}-ms", method, 0.1, seed, 13, 0.1, "" if value else "the loss is nan", value or "", step]
        for depth in (18, 34)
        for method, values in accuracies.items()
        for step, (seed, value) in zip((0.2, 0.3), enumerate(values), strict=True)
    ]
    with (tmp_path / "depth.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *found])
    claim_tables.main([str(tmp_path / "depth.csv"), "--picture", str(tmp_path / "depth.png")])
    lines = {(cells[1], cells[2]): cells[3:-1] for cells in map(cells_of, capsys.readouterr().out.splitlines())}
    assert lines["34-ms", "loss_sum"][3:] == ["0", "75.00 ± 190.59", "+15.00 ± 63.53", "+40.00 ± 508.25", "1.00"]
    # The run that failed counts as guessing.
    assert lines["34-ms", claim.EQUAL_TIME][3:6] == ["1", "35.00 ± 317.66", "-25.00 ± 444.72"]
    assert (tmp_path / "depth.png").read_bytes().startswith(b"\x89PNG")


def test_accuracy_by_number_of_epochs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["phase", "setting", "method", "lr", "seed", "epochs", "chance", "failed", "test_last", "seconds_per_step"]
    values = {(5, 0): 0.3, (5, 1): 0.5, (20, 0): 0.6}
    found = [["final", "34-basic", "vanilla", 0.1, seed, e, 0.01, "", value, 1] for (e, seed), value in values.items()]
    found.append(["final", "34-basic", "initialised", 0.1, 0, 20, 0.01, "", 0.7, 1])
    found += [
        ["final", "34-basic", "initialised", 0.1, 0, 5, 0.01, "", 0.4, 2],
        ["final", "34-basic", claim.EQUAL_TIME, 0.1, 0, 10, 0.01, "", 0.45, 1],
    ]
    with (tmp_path / "depth.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *found])
    claim_tables.main([str(tmp_path / "depth.csv"), "--budget", str(tmp_path / "budget.png")])
    lines = list(map(cells_of, capsys.readouterr().out.splitlines()))
    # Runs are compared with those of as many epochs, or of as much time.
    compared = {(cells[1], cells[2]): cells[7:11] for cells in lines if len(cells) > 10}
    assert compared["34-basic", "initialised"] == ["70.00", "+10.00", "-", "1.00"]
    assert compared["34-basic, 5 epochs", "initialised"] == ["40.00", "+10.00", "-5.00", "2.00"]
    assert ["34-basic", "vanilla", "40.00 ± 127.06 (2)", "-", "60.00 (1)"] in [cells[1:6] for cells in lines]
    assert ["34-basic", "initialised", "40.00 (1)", "-", "70.00 (1)"] in [cells[1:6] for cells in lines]
    assert (tmp_path / "budget.png").read_bytes().startswith(b"\x89PNG")


def test_a_method_goes_by_the_rate_that_fits_the_training_data_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["phase", "setting", "method", "lr", "seed", "epochs", "chance", "failed", "train_last", "test_last"]
    names += ["seconds_per_step"]
    found = [
        ["tune", "34-ms", "vanilla", "0.3", 0, 2, 0.1, "", 0.9, "", 0.1],
        ["final", "34-ms", "vanilla", "0.3", 0, 7, 0.1, "", 0.4, 0.9, 0.1],
        ["final", "34-ms", "vanilla", "0.1", 0, 7, 0.1, "", 0.5, 0.5, 0.1],
        # Of one rate alone, so that it does not tell the two apart.
        ["final", "34-ms", "vanilla", "0.3", 1, 7, 0.1, "", 0.9, 0.9, 0.1],
        ["final", "34-ms", "vanilla", "1", 0, 7, 0.1, "the loss is nan", 0.8, "", ""],
    ]
    with (tmp_path / "depth.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *found])
    claim_tables.main([str(tmp_path / "depth.csv")])
    lines = {(cells[1], cells[2]): cells[3:-1] for cells in map(cells_of, capsys.readouterr().out.splitlines())}
    with (tmp_path / "depth.csv").open(newline="", encoding="utf-8") as file:
        assert claim_tables.by_epochs(list(csv.DictReader(file))) == {"34-ms": {"vanilla": {7: [50.0]}}}
    assert lines["34-ms", "vanilla"][:4] == ["0.1", "7", "1", "0"]
    assert lines["34-ms", "vanilla"][4].startswith("50.00")
    assert lines["34-ms", "vanilla at 0.3"][2] == "2"
    assert lines["34-ms", "vanilla at 1"][3] == "1"


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")] if "|" in line else [""] * 4


def test_a_network_that_is_dead_at_the_first_step_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["depth", str(tmp_path), "--data", str(data), "--only", "zero-34", "--methods", "vanilla", "--seeds", "1"]
    command += ["--rates", "0.1", "--epochs", "1", "--threads", "1", "--set", "network.width=2", "data.batch_size=10"]
    command += ["network.time_steps=2", "training.precision=fp32"]
    assert claim.main([*command, "neuron.threshold=1.0"]) == 2
    assert "layers never fire at the first step" in capsys.readouterr().err
    assert not list(tmp_path.rglob("network.safetensors"))
    assert claim.main([*command, "neuron.threshold=1.0", "--dead"]) == 0
    claim.check_alive(claim.depth_recipe("zero-34", "vanilla", data))


def test_the_paper_s_table_in_the_time_there_is(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert paper.main([str(tmp_path), "--data", str(data), "--split", "0.001"]) == 0
    pieces = Path(capsys.readouterr().out.strip())
    assert len(list(pieces.iterdir())) > 1
    command = [str(tmp_path / "out"), "--data", str(pieces), "--minutes", "1e-6", "--width", "2"]
    command += ["--networks", "resnet18", "--methods", "vanilla", "shortcut"]
    assert paper.main(command) == 0
    assert "1 epochs of " in capsys.readouterr().out
    written = [(row["method"], row["epochs"], row["failed"]) for row in rows(tmp_path / "out" / "paper.csv")]
    assert written == [("vanilla", "1", ""), ("shortcut", "1", "")]
    assert paper.main(command) == 0
    # Nothing is trained twice.
    assert "test accuracy" not in capsys.readouterr().out


def test_an_interrupted_method_is_the_last(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plan.json").write_text('{"epochs": 1, "images": 200}')
    begun = []

    def interrupted(words: list[str]) -> int:
        begun.append(words[-1])
        return 130

    monkeypatch.setattr(claim, "main", interrupted)
    assert paper.main([str(tmp_path), "--data", str(data)]) == 130
    assert begun == ["vanilla"]


def test_an_ablation_leaves_out_the_named_parts() -> None:
    digits = load_digits()
    images = torch.tensor(digits.images[:16, None] / 8 - 0.5, dtype=torch.float32)
    labels = torch.tensor(digits.target[:16])

    def parts_set(*left_out: str) -> set[str]:
        torch.manual_seed(0)
        # Norms are fixed from 20 blocks on.
        network = nets.SpikingResNet((21,), 10, 1, width=2, in_channels=1)
        with claim.left_out(left_out):
            report = initialise(network, images, labels)
        spike: Any = network.get_submodule("layer1.1.spike2")
        found = {
            "norms": bool(spike.norm.weight[0] != 1),
            "weights": bool(report.weights),
            "surrogates": getattr(spike.neuron.surrogate, "factor", 1.0) != 1,
            "membranes": spike.neuron.detach_membrane,
            "fixed": not spike.norm.weight.requires_grad,
        }
        return {part for part, is_set in found.items() if is_set}

    assert parts_set(*claim.PARTS) == set()
    for name, left_out in claim.ABLATION_SETTINGS.items():
        if name.startswith("110-without"):
            assert parts_set(*left_out) == set(claim.PARTS) - set(left_out), name


def test_an_ablation_leaves_parts_out_with_every_optimizer() -> None:
    recipe = recipe_of({"network": {"kind": "resnet34-without-norms"}})
    assert claim.Run("final", "34-without-norms-muon", "initialised", recipe).left_out == ("norms",)
    assert claim.Run("final", "34-basic-muon", "initialised", recipe_of({})).left_out == ()
