"""Comparisons: what is run, what is skipped, what comes out."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from shortcut_snn.cli import main
from shortcut_snn.cli.compare import plan, running, summarise
from shortcut_snn.cli.compare.planning import without_method
from shortcut_snn.cli.report import write_page
from shortcut_snn.components import component_of
from shortcut_snn.recipes import PRESETS, recipe_of
from shortcut_snn.recipes.entries import layer, merged, write_recipe
from shortcut_snn.training.checkpoint import position, read_checkpoint

SHARED = ["--data.train_limit", "150", "--data.test_limit", "100", "--data.batch_size", "50"]
SHARED += ["--network.kind", "resnet8", "--network.width", "4", "--network.time_steps", "2", "--training.threads", "1"]


def labels(*given, **named):
    return [variant.label for variant in plan({}, *given, **named).variants]


def table(path):
    return list(csv.DictReader(path.open()))


def test_vanilla_runs_once_whatever_the_branches():
    grid = ["method.branches.taps=stages,blocks", "method.objective.kind=logit_sum,loss_sum"]
    made = plan({}, ["vanilla,evolutionary"], 3, grid[:1])
    assert [variant.label for variant in made.variants] == [
        "vanilla",
        "evolutionary taps=stages",
        "evolutionary taps=blocks",
    ]
    assert made.variants[0].recipe == recipe_of("vanilla")
    assert made.seeds == (0, 1, 2)
    assert len(labels(["evolutionary"], 1, grid)) == 4
    assert plan({"training": {"seed": 5}}, ["vanilla"], 2).seeds == (5, 6)


def test_other_entries_are_varied_for_all():
    made = plan({}, ["vanilla,shortcut"], 1, ["neuron.surrogate.width=1,4"])
    assert len(made.variants) == 4
    assert {variant.recipe.neuron.surrogate.width for variant in made.variants} == {1.0, 4.0}


def test_methods_carry_entries():
    own = "evolutionary method.branches.taps=blocks method.branches.schedule.initial=0.5"
    made = plan({}, ["vanilla,evolutionary", own], 1)
    assert [variant.label for variant in made.variants] == [
        "vanilla",
        "evolutionary",
        "evolutionary taps=blocks initial=0.5",
    ]
    branches = [variant.recipe.method.branches for variant in made.variants]
    assert (branches[0], branches[1].taps) == (None, "stages")
    assert (branches[2].taps, branches[2].schedule.initial) == ("blocks", 0.5)
    own = ["tet method.objective.weight=0.05 network.norm=tdbn", "evolutionary method.gradient.kind=rate"]
    first, second = (variant.recipe for variant in plan({}, own, 1).variants)
    assert (first.method.objective.weight, first.network.norm) == (0.05, "tdbn")
    assert second.method.gradient == recipe_of("rate").method.gradient
    # What a method says itself is not varied.
    assert labels([own[0]], 1, ["network.norm=bn,tdbn"]) == ["tet weight=0.05 norm=tdbn"]


def test_all_presets_can_be_compared():
    made = plan({"network": {"width": 4}}, list(PRESETS), 1)
    assert [variant.label for variant in made.variants] == list(PRESETS)
    assert {variant.label for variant in made.variants if variant.recipe.method.branches} == {
        "shortcut", "evolutionary", "loss_sum", "calibrated", "deep_supervision", "stages_and_steps",
        "distillation",
    }  # fmt: skip
    assert all(variant.recipe == recipe_of({"network": {"width": 4}}, variant.label) for variant in made.variants)


def test_a_grid_of_lists():
    made = plan({}, ["evolutionary"], 1, ["method.branches.taps=[layer1],[layer1,layer2],stages"])
    assert [variant.recipe.method.branches.taps for variant in made.variants] == [
        ("layer1",),
        ("layer1", "layer2"),
        "stages",
    ]
    assert [variant.label for variant in made.variants] == [
        "evolutionary taps=[layer1]",
        "evolutionary taps=[layer1, layer2]",
        "evolutionary taps=stages",
    ]
    made = plan({}, ["vanilla"], 1, ["optimizer.betas=[0.9,0.95],[0.8,0.99]", "network.kind=vgg11,resnet18"])
    assert [variant.recipe.optimizer.betas for variant in made.variants[::2]] == [(0.9, 0.95), (0.8, 0.99)]
    assert made.variants[0].label == "vanilla betas=[0.9, 0.95] network=vgg11"


def test_labels_and_folders_are_unique(tmp_path):
    # The last part of two entries is the same.
    grid = ["neuron.surrogate.width=1,2", "network.width=1,2"]
    made = plan({}, ["vanilla"], 1, grid).variants
    assert made[1].label == "vanilla neuron.surrogate.width=1 network.width=2"
    assert len({variant.folder for variant in made}) == 4
    made = labels(["vanilla network.width=4", "vanilla neuron.surrogate.width=4", "vanilla"])
    assert made == ["vanilla network.width=4", "vanilla neuron.surrogate.width=4", "vanilla"]
    # Two files have one name.
    for folder, width in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.yaml").write_text(f"network: {{width: {width}}}")
    files = [str(tmp_path / folder / "mine.yaml") for folder in "ab"]
    assert [variant.recipe.network.width for variant in plan({}, files).variants] == [1, 2]
    assert labels(files[:1]) == ["mine"]
    # The same twice is the same.
    assert labels(["vanilla,vanilla"], 1, ["network.width=4,4"]) == ["vanilla width=4"]
    taps = ", ".join(f"layer{i}.0.conv1" for i in range(1, 5) for _ in range(4))
    (variant,) = plan({}, ["evolutionary"], 1, [f"method.branches.taps=[{taps}]"]).variants
    assert len(variant.folder) <= 100


@pytest.mark.parametrize(
    ("methods", "seeds", "grid", "said"),
    [
        (["vanila"], 1, [], "no recipe or preset 'vanila'"),
        ([""], 1, [], "names nothing"),
        (["evolutionary blocks"], 1, [], "'blocks' is no entry: write KEY=VALUE"),
        (["evolutionary method.branches.tips=blocks"], 1, [], "method.branches has no entry 'tips'"),
        (["tet method.objective.wait=1"], 1, [], "objective 'tet' has no entry 'wait'"),
        (["vanilla 'x"], 1, [], '--methods: no closing quotation in "vanilla \'x"'),
        (["tet method.branches.taps=blocks"], 1, [], "tet has no use for branches"),
        (["vanilla"], 0, [], "--seeds"),
        (["vanilla"], 1, ["taps"], "KEY=A,B"),
        (["vanilla"], 1, ["network.width=[1"], "--grid network.width=.1: not YAML"),
        (["vanilla"], 1, ["network.depth=1,2"], "has no entry 'depth'"),
        (["vanilla"], 1, ["network.width=wide"], "width"),
        (["vanilla"], 1, ["training.seed=0,10"], "say how many seeds with --seeds"),
        (["vanilla training.seed=3"], 1, [], "say how many seeds with --seeds"),
        (["vanilla network.kind=vgg11"], 1, ["network.block=basic,sew"], "'vgg11' has no entry 'block'"),
    ],
)
def test_plan_refuses(methods, seeds, grid, said):
    with pytest.raises(ValueError, match=said):
        plan({}, methods, seeds, grid)


def test_what_is_said_for_all_holds_for_all():
    shared = {"method": {"objective": {"kind": "loss_sum"}, "branches": {"taps": "blocks"}}, "network": {"block": "ms"}}
    made = {each.label: each.recipe for each in plan(shared, ["vanilla,shortcut,sew"], 1).variants}
    assert {component_of(recipe.method.objective).name for recipe in made.values()} == {"loss_sum"}
    # A method without branches has none, and what a preset is made of outside of the method stays.
    assert made["vanilla"].method.branches is None
    assert (made["shortcut"].method.branches.taps, made["shortcut"].method.branches.schedule(5, 10)) == ("blocks", 1.0)
    assert (made["sew"].network.block, made["vanilla"].network.block) == ("sew", "ms")


def test_a_files_presets_are_not_what_methods_share(tmp_path):
    (tmp_path / "mine.yaml").write_text("presets: [calibrated]\nmethod: {objective: {kind: loss_sum}}\n")
    shared = layer(tmp_path / "mine.yaml", presets=False)
    made = {each.label: each.recipe for each in plan(shared, ["evolutionary"], 1).variants}
    assert (made["evolutionary"].method.branches.taps, made["evolutionary"].method.calibrate) == ("stages", False)


@pytest.mark.parametrize("whose", ["vanilla", "calibrated", "evolutionary"])
def test_a_runs_own_recipe_makes_no_methods_alike(whose, tmp_path):
    write_recipe(recipe_of("digits", whose, {"network": {"width": 2}}), tmp_path / "whole.yaml")
    shared = merged(without_method(tmp_path / "whole.yaml"))
    methods = ["vanilla", "shortcut", "evolutionary", "loss_sum", "calibrated"]
    for variant in plan(shared, methods, 1).variants:
        assert variant.recipe == recipe_of("digits", variant.label, {"network": {"width": 2}})
    # Of a file in which a person says some of it, that holds for all.
    (tmp_path / "mine.yaml").write_text("method: {objective: {kind: loss_sum}}\n")
    assert without_method(tmp_path / "mine.yaml") == {"method": {"objective": {"kind": "loss_sum"}}}


def test_presets_of_the_network_are_shared(tmp_path):
    assert layer("ms", presets=False) == {"network": {"block": "ms"}}
    (tmp_path / "mine.yaml").write_text("presets: [ms, calibrated]\nnetwork: {width: 4}\n")
    assert layer(tmp_path / "mine.yaml", presets=False) == {"network": {"block": "ms", "width": 4}}
    assert "method" in layer(tmp_path / "mine.yaml")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A comparison and its command."""
    folder = tmp_path_factory.mktemp("compare") / "c"
    command = ["compare", "--out", str(folder), "--methods", "vanilla,evolutionary", "--seeds", "2", "--jobs", "2"]
    command += [*SHARED, "--training.epochs", "1"]
    assert main(command) == 0
    return folder, command


def test_compare_end_to_end(compared, capsys):
    folder, command = compared
    rows, runs = table(folder / "comparison.csv"), table(folder / "runs.csv")
    assert [(row["variant"], row["n"]) for row in rows] == [("vanilla", "2"), ("evolutionary", "2")]
    assert [(run["variant"], run["seed"], run["folder"]) for run in runs] == [
        (method, seed, method) for method in ("vanilla", "evolutionary") for seed in "01"
    ]
    for name in ("seconds_per_step", "seconds_per_epoch"):
        assert float(rows[0][name]) == pytest.approx(sum(float(run[name]) for run in runs[:2]) / 2)
    accuracies = [100 * float(run["test_last.accuracy"]) for run in runs]
    assert float(rows[0]["last"]) == pytest.approx(sum(accuracies[:2]) / 2)
    pairs = [accuracies[2] - accuracies[0], accuracies[3] - accuracies[1]]
    assert float(rows[1]["difference"]) == pytest.approx(sum(pairs) / 2)
    assert (folder / "comparison.png").is_file()
    assert json.loads((folder / "comparison.json").read_text()) == {
        "metric": "accuracy", "higher_is_better": True, "fraction": True, "baseline": "vanilla",
    }  # fmt: skip

    # Again: nothing is trained twice, but a run that was lost is.
    lost = folder / "evolutionary" / "seed1"
    kept = folder / "vanilla" / "seed0" / "checkpoint.ckpt"
    before = kept.stat().st_mtime_ns
    (lost / "result.json").unlink()
    # A run of a version that did not measure steps is as good as any.
    old = folder / "vanilla" / "seed1" / "result.json"
    result = json.loads(old.read_text())
    for name in ("seconds_per_step", "peak_bytes_per_step"):
        del result[name]
    old.write_text(json.dumps(result))
    assert main(command) == 0
    said = capsys.readouterr().out
    # What is printed fits a terminal; the file has the rest.
    shown = [line for line in said.splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in shown[2:]] == ["vanilla", "evolutionary"]
    assert "±" in shown[2]
    assert max(map(len, shown)) <= 80
    assert "| s / step | MiB / step" in (folder / "comparison.md").read_text()
    assert kept.stat().st_mtime_ns == before
    assert (lost / "result.json").is_file()
    again = table(folder / "comparison.csv")
    assert [row["last"] for row in again] == [row["last"] for row in rows]
    assert float(again[0]["seconds_per_step"]) == float(runs[0]["seconds_per_step"])

    # Runs of another recipe are not taken for those of this one, and a damaged result spoils its own run alone.
    assert main([*command, "--training.epochs", "3", "--seeds", "1"]) == 1
    said = capsys.readouterr()
    assert "2 of 2 runs failed" in said.err
    assert "has another recipe (training.epochs was 1 and is 3)" in said.err
    assert ": accuracy" not in said.out
    old.write_text("{")
    assert main(command) == 1
    assert "1 of 4 runs failed" in capsys.readouterr().err
    left = table(folder / "comparison.csv")
    assert [row["n"] for row in left] == ["1", "2"]


def finished(folder, **changes):
    """A result as runs leave it, made up."""
    folder.mkdir(parents=True)
    result = {"metric": "accuracy", "higher_is_better": True, "fraction": True, "chance": 0.1}
    result |= {f"{part}_{when}": {"accuracy": 0.5} for part in ("test", "validation") for when in ("last", "best")}
    result |= {"seconds_per_epoch": 1.0, "gradient_ratio_first_epoch": 1.0, "gradient_ratio_last_epoch": 1.0}
    (folder / "result.json").write_text(json.dumps(result | changes))


def test_what_no_run_measured_is_a_dash(tmp_path):
    finished(tmp_path / "vanilla" / "seed0")
    summarise(plan({}, ["vanilla"], 1), tmp_path)
    assert (tmp_path / "comparison.md").read_text().splitlines()[-1].split("|")[-3:-1] == [" -        ", " -          "]


def test_a_gradient_that_never_arrives_is_a_ratio_of_0(tmp_path):
    for seed, (first, last) in enumerate([(0.0, None), (4.0, 4.0)]):
        ratios = {"gradient_ratio_first_epoch": first, "gradient_ratio_last_epoch": last}
        finished(tmp_path / "vanilla" / f"seed{seed}", **ratios)
    (row,) = summarise(plan({}, ["vanilla"], 2), tmp_path)
    assert (row["gradient_ratio_first_epoch"], row["gradient_ratio_last_epoch"]) == (0, pytest.approx(4))


def test_what_has_no_test_data_is_compared_on_validation_data(tmp_path):
    finished(tmp_path / "vanilla" / "seed0", test_last={}, test_best={}, validation_last={"accuracy": 0.25})
    (row,) = summarise(plan({}, ["vanilla"], 1), tmp_path)
    assert row["last"] == 25


def test_the_others_are_set_against_the_first_alone(tmp_path):
    made = plan({}, ["vanilla", "shortcut", "evolutionary"], 2)
    for method in ("shortcut", "evolutionary"):
        for seed in (0, 1):
            finished(tmp_path / method / f"seed{seed}", test_last={"accuracy": 0.25 * (seed + 1)})
    rows = summarise(made, tmp_path)
    assert [row["variant"] for row in rows] == ["shortcut", "evolutionary"]
    assert all(row["difference"] != row["difference"] for row in rows)
    # Of seeds that both have, the difference is one of pairs.
    finished(tmp_path / "vanilla" / "seed1", test_last={"accuracy": 0.25})
    rows = summarise(made, tmp_path)
    assert [(row["variant"], row["n"], row["difference"]) for row in rows] == [
        ("vanilla", 1, 0), ("shortcut", 2, 25), ("evolutionary", 2, 25),
    ]  # fmt: skip


def test_a_first_method_that_fails_is_named_and_nothing_is_set_against_the_second(tmp_path, capsys):
    folder = tmp_path / "c"
    command = ["compare", "--out", str(folder), "--seeds", "1", "--jobs", "2", *SHARED, "--training.epochs", "1"]
    assert main([*command, "--methods", "evolutionary method.branches.taps=[layr1]", "vanilla"]) == 1
    streams = capsys.readouterr()
    assert "1 of 2 runs failed" in streams.err
    assert "layr1" in streams.err
    assert streams.err.count("\n") == 1
    assert "FAILED evolutionary taps=[layr1], seed 0: " in streams.out
    (row,) = [line.split("|") for line in streams.out.splitlines() if line.startswith("| vanilla")]
    assert row[4].strip() == "-"
    assert "no run of evolutionary taps=[layr1] has finished: there is nothing to set the others against" in streams.out
    assert table(folder / "comparison.csv")[0]["difference"] == "nan"


class Runs:
    """Stands in for what trains: it leaves results that learning rate and branches decide."""

    def __init__(self):
        self.trained = []

    def __call__(self, children, launcher, recipe, place, imports=(), enough=None, tell=print):
        self.trained.append((place.path.parts[-3:], recipe.training.epochs, recipe.optimizer.lr))
        place.path.mkdir(parents=True, exist_ok=True)
        if recipe.optimizer.lr > 1:
            raise ValueError("the loss is NaN")
        # Without branches the best is the least rate, with them one between.
        far = recipe.optimizer.lr - (0.01 if recipe.method.branches is None else 0.1)
        shown = {"accuracy": 0.9 - abs(far)}
        metrics = {"metric": "accuracy", "higher_is_better": True, "fraction": True, "chance": 0.1}
        parts = {f"{part}_{when}": shown for part in ("test", "validation") for when in ("last", "best")}
        ratios = {"gradient_ratio_first_epoch": 1.0, "gradient_ratio_last_epoch": 1.0}
        place.begin(recipe.to_dict(), "", {}, [], metrics)
        place.finish(metrics | parts | ratios | {"seconds_per_epoch": 1.0, "epochs": recipe.training.epochs})


@pytest.mark.parametrize("name", ["runs.csv", "comparison.csv", "comparison.md", "comparison.png", "tuning.csv"])
def test_a_persons_own_files_are_not_written_over(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr(running, "train", runs := Runs())
    (tmp_path / name).write_text("my own work")
    assert main(["compare", "--out", str(tmp_path), "--methods", "vanilla", "--seeds", "1", *SHARED]) == 1
    said = f"{tmp_path} is not empty and holds no comparison, but {name}; name another folder"
    assert capsys.readouterr().err == f"shortcut-snn: error: {said}\n"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "my own work"}
    assert not runs.trained


@pytest.mark.parametrize(
    "left",
    [
        "jobs/one.ticket",
        "vanilla/.shortcut-snn-seed0-0123abcd.yaml",
        "shortcut/seed0.yaml",
        "shortcut/tune/optimizer.lr=1.yaml",
        "comparison.json",
    ],
)
def test_a_comparison_that_was_stopped_goes_on(tmp_path, monkeypatch, left):
    monkeypatch.setattr(running, "train", Runs())
    (tmp_path / left).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / left).write_text("{}")
    # Beside what is of a comparison a person may have notes.
    if not left.startswith("jobs"):
        (tmp_path / "notes.txt").write_text("my own work")
    command = ["compare", "--out", str(tmp_path), "--methods", "vanilla", "--seeds", "1", *SHARED]
    assert main([*command, "--optimizer.lr", "0.01"]) == 0


def test_where_nothing_is_tuned_nothing_is_said_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "train", Runs())
    command = ["compare", "--out", str(tmp_path / "c"), "--methods", "vanilla", "--seeds", "1", *SHARED]
    assert main([*command, "--optimizer.lr", "0.01"]) == 0
    assert not (tmp_path / "c" / "tuning.csv").exists()
    assert "tuned" not in json.loads((tmp_path / "c" / "comparison.json").read_text())


def test_each_method_gets_its_own_best_value_before_the_seeds(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(running, "train", runs := Runs())
    folder = tmp_path / "c"
    command = ["compare", "--out", str(folder), "--methods", "vanilla,evolutionary", "--seeds", "2", *SHARED]
    command += ["--tune", "optimizer.lr=0.01,0.1,0.5,5", "--tune-epochs", "3", "--training.epochs", "7"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "2 variants, 2 seeds: 4 runs, after 8 that tune" in said
    assert "FAILED vanilla, trying optimizer.lr=5: the loss is NaN" in said
    assert "vanilla trains with optimizer.lr 0.01 (the least tried)" in said
    assert "evolutionary trains with optimizer.lr 0.1\n" in said
    assert [epochs for _, epochs, _ in runs.trained] == [3] * 8 + [7] * 4
    finals = {(place[1], place[2]): rate for place, epochs, rate in runs.trained if epochs == 7}
    assert finals == {
        ("vanilla", "seed0"): 0.01, ("vanilla", "seed1"): 0.01,
        ("evolutionary", "seed0"): 0.1, ("evolutionary", "seed1"): 0.1,
    }  # fmt: skip
    rows = table(folder / "tuning.csv")
    assert [(row["variant"], row["optimizer.lr"], row["outcome"]) for row in rows] == [
        ("vanilla", "0.01", "chosen"), ("vanilla", "0.1", ""), ("vanilla", "0.5", ""), ("vanilla", "5", "failed"),
        ("evolutionary", "0.01", ""), ("evolutionary", "0.1", "chosen"), ("evolutionary", "0.5", ""),
        ("evolutionary", "5", "failed"),
    ]  # fmt: skip
    assert float(rows[4]["validation_accuracy"]) == pytest.approx(0.81)
    (line,) = [line for line in said.splitlines() if line.startswith("| vanilla")]
    assert line.split("|")[2].strip() == "0.01 (the least tried)"
    page = write_page(folder).read_text()
    assert "Tuning" in page
    assert "0.01 (the least tried)" in page
    # What has run is not run again but what failed, which may do better now.
    before = len(runs.trained)
    assert main(command) == 0
    assert [rate for _, _, rate in runs.trained[before:]] == [5, 5]


def test_a_method_none_of_whose_values_trains_has_failed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(running, "train", Runs())
    command = ["compare", "--out", str(tmp_path / "c"), "--methods", "vanilla", "--seeds", "1", *SHARED]
    assert main([*command, "--tune", "optimizer.lr=5,9"]) == 1
    assert "1 of 1 runs failed" in (error := capsys.readouterr().err)
    assert "the loss is NaN" in error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tune", "optimizer.lrr=1,2"], "has no entry 'lrr' (did you mean lr?)"),
        (["--tune", "optimizer.lr"], "--tune takes KEY=A,B"),
        (["--tune", "optimizer.lr=[1"], "--tune optimizer.lr=[1: not YAML"),
        (["--tune", "optimizer.lr=1,2", "--grid", "optimizer.lr=3,4"], "both in --grid and in --tune"),
        (["--tune", "training.seed=1,2"], "say how many seeds with --seeds"),
        (["--tune", "data.validation=0.1,0.5"], "data.validation decides what the values of --tune are judged by"),
        (["--tune", "data.train_limit=60,100"], "data.train_limit decides what the values of --tune are judged by"),
        (["--tune", "data={seed: 0},{seed: 1}"], "data.seed decides what the values of --tune are judged by"),
        (["--tune", "optimizer.lr=1,2", "--tune-epochs", "0"], "training.epochs"),
        (["--tune", "training.epochs=1,2", "--tune-epochs", "1"], "runs are: leave --tune-epochs out"),
        (["--tune", "training={epochs: 1},{epochs: 2}", "--tune-epochs", "1"], "runs are: leave --tune-epochs out"),
        (["--tune-epochs", "2"], "--tune-epochs is for --tune"),
        (["--tune", "optimizer.lr=1,2", "--data.validation", "0"], "holds out none: add --data.validation 0.1"),
    ],
    ids=range(13),
)
def test_tuning_that_makes_no_sense_is_refused_before_any_run(tmp_path, capsys, words, said):
    assert main(["compare", "--out", str(tmp_path / "c"), "--methods", "vanilla", *SHARED, *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_what_is_no_matter_of_a_method_is_not_tuned_for_it():
    made = plan({}, ["vanilla", "shortcut optimizer.lr=0.1"], 1, tune=["method.branches.by=step,epoch"]).variants
    assert [len(variant.tries) for variant in made] == [0, 2]
    made = plan({}, ["vanilla", "shortcut optimizer.lr=0.1"], 1, tune=["optimizer.lr=1,2,3"]).variants
    assert [len(variant.tries) for variant in made] == [3, 0]


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_comparison_that_is_ended_loses_no_epoch_and_leaves_no_run_behind(tmp_path, number):
    command = [sys.executable, "-m", "shortcut_snn", "compare", "--out", str(tmp_path / "c"), "--methods", "vanilla"]
    command += ["--seeds", "2", *SHARED, "--training.epochs", "500"]
    with (tmp_path / "said").open("wb") as said:
        parent = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
        log = tmp_path / "c" / "vanilla" / "seed0.log"
        deadline = time.monotonic() + 1800
        try:
            while not (log.is_file() and "epoch 2/500" in log.read_text()):
                assert time.monotonic() < deadline
                assert parent.poll() is None
                time.sleep(0.1)
            # As Ctrl-C does, and as a batch system does.
            os.killpg(parent.pid, number) if number == signal.SIGINT else parent.send_signal(number)
            assert parent.wait(600) == 128 + number
        finally:
            parent.kill()
    lines = log.read_text().splitlines()
    assert "interrupted" in lines[-1]
    epochs = sum("/500: loss" in line for line in lines)
    run = tmp_path / "c" / "vanilla" / "seed0"
    assert epochs >= 2
    assert len(table(run / "metrics.csv")) == epochs
    assert position(read_checkpoint(run / "checkpoint.ckpt"))[0] == epochs
    assert not (tmp_path / "c" / "vanilla" / "seed1").exists()
    text = (tmp_path / "said").read_text()
    assert "FAILED" not in text
    assert "stopped vanilla, seed 0" in text
