"""Comparisons: what is run, what is skipped, what comes out."""

import csv
import json
import signal
import subprocess
import sys
import time

import pytest
from shortcut_snn.cli import main
from shortcut_snn.training.compare import Plan, summarise
from shortcut_snn.training.recipe import Recipe

from .small import options


def test_plan_runs_vanilla_once_whatever_the_branches():
    plan = Plan.parse(
        Recipe(), "vanilla,evolutionary", 3, ["method.taps=stages,blocks", "method.objective=logit_sum,loss_sum"]
    )
    labels = [variant.label for variant in plan.variants]
    assert labels[0] == "vanilla"
    assert len(labels) == 5
    assert plan.seeds == (0, 1, 2)
    assert len({variant.folder for variant in plan.variants}) == 5


def test_plan_varies_other_entries_for_all():
    plan = Plan.parse(Recipe(), "vanilla,shortcut", 1, ["neuron.surrogate.width=1,4"])
    assert len(plan.variants) == 4
    assert {variant.recipe.neuron.surrogate.width for variant in plan.variants} == {1.0, 4.0}


def test_methods_carry_entries():
    plan = Plan.parse(Recipe(), "vanilla,evolutionary,evolutionary:taps=blocks:initial=0.5", 1)
    assert [variant.label for variant in plan.variants] == [
        "vanilla",
        "evolutionary",
        "evolutionary taps=blocks initial=0.5",
    ]
    assert plan.variants[2].recipe.method.taps == "blocks"
    assert plan.variants[2].recipe.method.initial == 0.5
    assert plan.variants[1].recipe.method.taps is None, "the method's own"


@pytest.mark.parametrize(
    ("methods", "seeds", "grid", "said"),
    [
        ("vanila", 1, [], "unknown method"),
        ("", 1, [], "names nothing"),
        ("evolutionary:blocks", 1, [], "KEY=VALUE"),
        ("evolutionary:tips=blocks", 1, [], "no entry 'method.tips'"),
        ("vanilla", 0, [], "--seeds"),
        ("vanilla", 1, ["taps"], "KEY=A,B"),
        ("vanilla", 1, ["network.depth=1,2"], "no entry 'network.depth'"),
        ("vanilla", 1, ["network.width=wide"], "width"),
        ("vanilla", 1, ["train.seed=0,10"], "say how many seeds with --seeds"),
    ],
)
def test_plan_refuses(methods, seeds, grid, said):
    with pytest.raises(ValueError, match=said):
        Plan.parse(Recipe(), methods, seeds, grid)


def test_compare_end_to_end(tmp_path, capsys):
    command = [
        "compare",
        "--out",
        str(tmp_path / "c"),
        "--methods",
        "vanilla,evolutionary",
        "--seeds",
        "2",
        "--jobs",
        "2",
    ]
    command += options(train__epochs=1)
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "| vanilla" in said
    assert "±" in said
    rows = list(csv.DictReader((tmp_path / "c" / "comparison.csv").open()))
    assert [(row["variant"], row["n"]) for row in rows] == [("vanilla", "2"), ("evolutionary", "2")]
    runs = list(csv.DictReader((tmp_path / "c" / "runs.csv").open()))
    assert len(runs) == 4
    assert "| s / step | MiB / step" in said
    for name in ("seconds_per_step", "seconds_per_epoch"):
        assert float(rows[0][name]) == pytest.approx(sum(float(run[name]) for run in runs[:2]) / 2)
    mean = sum(100 * float(run["test_accuracy_last"]) for run in runs[:2]) / 2
    assert float(rows[0]["last"]) == pytest.approx(mean)
    assert (tmp_path / "c" / "comparison.png").is_file()

    # Again: nothing is trained twice, but a run that was lost is.
    lost = tmp_path / "c" / "evolutionary" / "seed1"
    kept = tmp_path / "c" / "vanilla" / "seed0" / "checkpoint.ckpt"
    before = kept.stat().st_mtime_ns
    (lost / "result.json").unlink()
    # A run of a version that did not measure steps is as good as any.
    old = tmp_path / "c" / "vanilla" / "seed1" / "result.json"
    result = json.loads(old.read_text())
    for name in ("seconds_per_step", "peak_bytes_per_step"):
        del result[name]
    old.write_text(json.dumps(result))
    assert main(command) == 0
    assert kept.stat().st_mtime_ns == before
    assert (lost / "result.json").is_file()
    again = list(csv.DictReader((tmp_path / "c" / "comparison.csv").open()))
    assert [row["last"] for row in again] == [row["last"] for row in rows]
    assert float(again[0]["seconds_per_step"]) == float(runs[0]["seconds_per_step"])

    # Runs of another recipe are not taken for those of this one, and a damaged result spoils its own run alone.
    capsys.readouterr()
    assert main([*command, "--train.epochs", "3"]) == 1
    assert "4 of 4 runs failed" in (said := capsys.readouterr()).err
    assert "has another recipe (train.epochs was 1 and is 3)" in said.err
    assert "test accuracy" not in said.out
    old.write_text("{")
    assert main(command) == 1
    assert "1 of 4 runs failed" in capsys.readouterr().err
    left = list(csv.DictReader((tmp_path / "c" / "comparison.csv").open()))
    assert [row["n"] for row in left] == ["1", "2"]


def test_what_no_run_measured_is_a_dash(tmp_path):
    place = tmp_path / "vanilla" / "seed0"
    place.mkdir(parents=True)
    result = {"test_accuracy_last": 0.5, "test_accuracy_best": 0.5, "seconds_per_epoch": 1.0}
    result |= {"gradient_ratio_first_epoch": 1.0, "gradient_ratio_last_epoch": 1.0}
    (place / "result.json").write_text(json.dumps(result))
    summarise(Plan.parse(Recipe(), "vanilla", 1), tmp_path)
    assert (tmp_path / "comparison.md").read_text().splitlines()[-1].split("|")[-3:-1] == [" -        ", " -          "]


def test_what_is_shared_may_concern_some_methods_only(tmp_path, capsys):
    command = ["compare", "--out", str(tmp_path / "c"), "--methods", "vanilla:neuron.tau=2", "--seeds", "1"]
    # Of TET's regulariser vanilla knows nothing, and is stopped by its own tau only.
    assert main([*command, *options(method__tet__weight=0.05)]) == 1
    assert "tau" in capsys.readouterr().err


def test_failed_run_is_named_and_others_go_on(tmp_path, capsys):
    command = ["compare", "--out", str(tmp_path / "c"), "--methods", "vanilla,evolutionary", "--seeds", "1"]
    command += options(train__epochs=1, method__taps="[layr1]")
    assert main(command) == 1
    streams = capsys.readouterr()
    assert "layr1" in streams.err
    assert "| vanilla" in streams.out
    assert "FAILED evolutionary" in streams.out


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_a_comparison_that_is_ended_leaves_no_run_behind(tmp_path):
    command = [sys.executable, "-m", "shortcut_snn", "compare", "--out", str(tmp_path / "c"), "--methods", "vanilla"]
    parent = subprocess.Popen([*command, "--seeds", "2", *options(train__epochs=500)], stdout=subprocess.DEVNULL)
    log = tmp_path / "c" / "vanilla" / "seed0.log"
    deadline = time.monotonic() + 60
    while not (log.is_file() and "epoch 2/500" in log.read_text()):
        assert time.monotonic() < deadline
        assert parent.poll() is None
        time.sleep(0.1)
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(60) == 143
    assert "interrupted" in log.read_text().splitlines()[-1]
    assert not (tmp_path / "c" / "vanilla" / "seed1").exists()
