"""Comparisons: what is planned, what is trained, what is skipped, and the tables that come out."""

import json

import pytest

from shortcut_snn.cli import main
from shortcut_snn.cli.compare import plan
from shortcut_snn.cli.report import write_page
from shortcut_snn.components import component_of
from shortcut_snn.recipes import recipe_of
from shortcut_snn.recipes.entries import PRESETS, layer, write_recipe

from .fake_runs import FakeRuns, table

SMALL = ["--data.train_limit", "60", "--data.test_limit", "30", "--network.kind", "resnet8", "--network.width", "2"]
SMALL += ["--network.time_steps", "1", "--training.epochs", "1"]


def labels(*args, **options):
    return [variant.label for variant in plan({}, *args, **options).variants]


# Plans.


def test_methods_without_branches_ignore_entries_of_branches():
    grid = ["method.branches.taps=stages,blocks", "method.objective.kind=logit_sum,loss_sum"]
    made = plan({}, ["vanilla,evolutionary"], 3, grid[:1])
    assert [variant.label for variant in made.variants] == [
        "vanilla", "evolutionary method.branches.taps=stages", "evolutionary method.branches.taps=blocks",
    ]  # fmt: skip
    assert made.variants[0].recipe == recipe_of("vanilla")
    assert made.seeds == (0, 1, 2)
    assert len(labels(["evolutionary"], 1, grid)) == 4
    assert plan({"training": {"seed": 5}}, ["vanilla"], 2).seeds == (5, 6)
    tuned = plan({}, ["vanilla", "shortcut"], 1, tune=["method.branches.by=step,epoch"]).variants
    assert [variant.tuned for variant in tuned] == [{}, {"method.branches.by": ["step", "epoch"]}]


def test_methods_carry_entries_of_their_own():
    spec = "evolutionary method.branches.taps=blocks method.branches.branch_weight.initial=0.5"
    made = plan({}, ["vanilla,evolutionary", spec], 1).variants
    assert [variant.label for variant in made] == ["vanilla", "evolutionary", spec]
    branches = [variant.recipe.method.branches for variant in made]
    assert (branches[0], branches[1].taps, branches[2].taps) == (None, "stages", "blocks")
    # A method's own entries are neither varied nor tuned.
    spec = "tet method.objective.weight=0.05 network.norm=tdbn"
    assert labels([spec], 1, ["network.norm=bn,tdbn"]) == [spec]
    tuned = plan({}, ["vanilla", "shortcut optimizer.lr=0.1"], 1, tune=["optimizer.lr=1,2,3"]).variants
    assert [variant.tuned for variant in tuned] == [{"optimizer.lr": [1, 2, 3]}, {}]


def test_the_network_of_a_preset_is_not_varied():
    made = plan({}, ["vanilla,ms"], 1, ["network.block=basic,sew"]).variants
    blocks = [(variant.label, variant.recipe.network.block) for variant in made]
    assert blocks == [("vanilla network.block=basic", "basic"), ("ms", "ms"), ("vanilla network.block=sew", "sew")]
    for option in ("grid", "tune"):
        with pytest.raises(ValueError, match=r"network\.block: network 'vgg11' has no entry"):
            plan({}, ["ms"], 1, **{option: ["network.kind=resnet20,vgg11"]})
    (variant,) = plan({}, ["ms"], 1, tune=["network.kind=resnet20,resnet34"]).variants
    assert [recipe.network.block for _, recipe in variant.candidates(None)] == ["ms", "ms"]


def test_every_preset_can_be_compared():
    made = plan({"network": {"width": 4}}, list(PRESETS), 1).variants
    assert [variant.label for variant in made] == list(PRESETS)
    assert all(variant.recipe == recipe_of({"network": {"width": 4}}, variant.label) for variant in made)


def test_labels_and_folders_are_unique(tmp_path):
    assert len({variant.folder for variant in plan({}, ["vanilla"], 1, ["network.width=1,2"]).variants}) == 2
    # Two files have the same name.
    for folder, width in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.yaml").write_text(f"network: {{width: {width}}}")
    files = [str(tmp_path / folder / "mine.yaml") for folder in "ab"]
    assert labels(files[:1]) == ["mine"]
    with pytest.raises(ValueError, match="rename"):
        plan({}, files)
    (tmp_path / "b" / "MINE.yaml").write_text("network: {width: 3}")
    with pytest.raises(ValueError, match="rename"):
        plan({}, [files[0], str(tmp_path / "b" / "MINE.yaml")])
    assert labels(["vanilla,vanilla"], 1, ["network.width=4,4"]) == ["vanilla network.width=4"]
    repeated = ["network.width=4,4", "network.width=2,4"]
    assert labels(["vanilla"], 1, repeated) == ["vanilla network.width=4", "vanilla network.width=2"]
    assert plan({}, ["vanilla"], 1, tune=repeated).variants[0].tuned == {"network.width": [4, 2]}
    made = plan({}, ["evolutionary"], 1, ["method.branches.taps=[layer1],[layer1,layer2],stages"]).variants
    assert [variant.recipe.method.branches.taps for variant in made] == [("layer1",), ("layer1", "layer2"), "stages"]
    assert made[1].label == "evolutionary method.branches.taps=[layer1, layer2]"


@pytest.mark.parametrize(
    ("methods", "seeds", "grid", "keyword"),
    [
        (["vanila"], 1, [], "vanilla"),
        ([""], 1, [], "--methods"),
        (["evolutionary method.branches.tips=blocks"], 1, [], "tips"),
        (["vanilla 'x"], 1, [], "--methods"),
        (["tet method.branches.taps=blocks"], 1, [], "branches"),
        (["vanilla"], 0, [], "--seeds"),
        (["vanilla"], 1, ["taps"], "KEY=A,B"),
        (["vanilla"], 1, ["network.width= "], "KEY=A,B"),
        (["vanilla"], 1, ["network.width=[1"], "YAML"),
        (["vanilla"], 1, ["network.width=wide"], "width"),
        (["vanilla"], 1, ["training.seed=0,10"], "--seeds"),
        (["vanilla training.seed=3"], 1, [], "--seeds"),
        (["vanilla network.kind=vgg11"], 1, ["network.block=basic,sew"], "block"),
    ],
)
def test_a_plan_names_what_is_wrong(methods, seeds, grid, keyword):
    with pytest.raises(ValueError, match=keyword):
        plan({}, methods, seeds, grid)


def test_shared_entries_hold_for_all_methods():
    shared = {"method": {"objective": {"kind": "loss_sum"}, "branches": {"taps": "blocks"}}, "network": {"block": "ms"}}
    made = {each.label: each.recipe for each in plan(shared, ["vanilla,shortcut,sew"], 1).variants}
    assert {component_of(recipe.method.objective).name for recipe in made.values()} == {"loss_sum"}
    # A method without branches keeps none, and a preset's entries outside the method win.
    assert made["vanilla"].method.branches is None
    assert made["shortcut"].method.branches.taps == "blocks"
    assert (made["sew"].network.block, made["vanilla"].network.block) == ("sew", "ms")


@pytest.mark.parametrize("preset", ["vanilla", "initialised"])
def test_the_complete_recipe_of_a_run_keeps_methods_different(preset, tmp_path):
    write_recipe(recipe_of("digits", preset, {"network": {"width": 2}}), tmp_path / "whole.yaml")
    shared = layer(tmp_path / "whole.yaml", with_method=False)
    for variant in plan(shared, ["vanilla", "shortcut", "loss_sum", "initialised"], 1).variants:
        assert variant.recipe == recipe_of("digits", variant.label, {"network": {"width": 2}})
    # The presets that a file names are methods too.
    (tmp_path / "mine.yaml").write_text("presets: [initialised_loss_sum, ms]\nmethod: {objective: {kind: loss_sum}}\n")
    assert layer(tmp_path / "mine.yaml", with_method=False) == {"network": {"block": "ms"}}


def test_methods_replace_the_method_of_the_shared_recipe(tmp_path, runs, capsys):
    small, gentle = tmp_path / "small.yaml", tmp_path / "gentle.yaml"
    small.write_text("network: {width: 2}\nmethod: {branches: {taps: blocks}, objective: {kind: loss_sum}}\n")
    gentle.write_text("method: {branches: {branch_weight: {kind: cosine, initial: 0.1}}}\n")
    assert compare(tmp_path / "c", "--config", str(small), methods=("evolutionary", str(gentle))) == 0
    assert f"{small}: its method is left out" in capsys.readouterr().out
    recipes = {name: recipe_of(tmp_path / "c" / name / "seed0" / "recipe.yaml") for name in ("evolutionary", "gentle")}
    for name, method in (("evolutionary", "evolutionary"), ("gentle", gentle)):
        assert recipes[name].method == recipe_of("digits", method).method
        assert recipes[name].network.width == 2


def test_values_do_not_replace_entries_of_a_method():
    spec = "vanilla 'optimizer={kind: sgd, lr: 0.5}' neuron.surrogate.kind=rectangle"
    grid = ["optimizer.lr=0.01,0.03", "neuron.surrogate=triangle,atan", "network.width=2,4"]
    assert labels([spec], 1, grid) == [
        f"vanilla network.width={width} optimizer={{kind: sgd, lr: 0.5}} neuron.surrogate.kind=rectangle"
        for width in (2, 4)
    ]
    tuned = plan({}, [spec, "vanilla optimizer=muon"], 1, tune=grid).variants
    assert [list(variant.tuned) for variant in tuned] == [
        ["network.width"], ["optimizer.lr", "neuron.surrogate", "network.width"],
    ]  # fmt: skip


# Training, with runs that take no time. The pages of documentation and the demo train real ones.


def learning_rate_decides(recipe):
    """Without branches the smallest rate is best, with them a middle one; above 1 training fails."""
    rate = recipe.optimizer.lr
    return None if rate > 1 else 0.9 - abs(rate - (0.01 if recipe.method.branches is None else 0.1))


@pytest.fixture
def runs(monkeypatch):
    return FakeRuns(monkeypatch, learning_rate_decides)


def compare(folder, *words, methods=("vanilla",), seeds=1):
    command = ["compare", "--out", str(folder), "--methods", *methods, "--seeds", str(seeds)]
    return main([*command, "--training.epochs", "1", "--optimizer.lr", "0.01", *words])


def test_a_comparison_from_end_to_end(tmp_path, monkeypatch, capsys):
    accuracies = {(False, 0): 0.5, (False, 1): 0.6, (True, 0): 0.8, (True, 1): 0.86}
    runs = FakeRuns(monkeypatch, lambda made: accuracies[made.method.branches is not None, made.training.seed])
    folder, methods = tmp_path / "c", ["vanilla,evolutionary"]
    assert compare(folder, "--jobs", "2", methods=methods, seeds=2) == 0
    rows, trained = table(folder / "comparison.csv"), table(folder / "runs.csv")
    assert [(row["variant"], row["n"]) for row in rows] == [("vanilla", "2"), ("evolutionary", "2")]
    assert [(run["variant"], run["seed"], run["folder"]) for run in trained] == [
        (method, seed, method) for method in ("vanilla", "evolutionary") for seed in "01"
    ]
    assert [float(row["last"]) for row in rows] == pytest.approx([55, 83])
    # Paired differences of 30 and 26 points, and Student's t with one degree of freedom.
    assert float(rows[1]["difference"]) == pytest.approx(28)
    assert float(rows[1]["difference_interval"]) == pytest.approx(12.7062 * 2, rel=1e-4)
    assert (folder / "comparison.png").is_file()
    assert json.loads((folder / "comparison.json").read_text()) == {
        "metric": "accuracy", "higher_is_better": True, "fraction": True, "tuned": {},
        "variants": {name: {"folder": name, "seeds": [0, 1]} for name in ("vanilla", "evolutionary")},
    }  # fmt: skip

    # Again: nothing is trained twice, except a run that was lost.
    runs.trained.clear()
    (folder / "evolutionary" / "seed1" / "result.json").unlink()
    assert compare(folder, methods=methods, seeds=2) == 0
    assert [name for name, _ in runs.trained] == ["seed1"]
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in shown[2:4]] == ["vanilla", "evolutionary"]
    assert max(map(len, shown)) <= 80, "the table fits a terminal"
    assert "| s / step | MiB / step" in (folder / "comparison.md").read_text()
    assert [row["last"] for row in table(folder / "comparison.csv")] == [row["last"] for row in rows]

    # A run of another recipe is not used, and a damaged result affects its own run alone.
    assert compare(folder, "--training.epochs", "3", methods=methods) == 1
    assert "training.epochs" in capsys.readouterr().err
    (folder / "vanilla" / "seed1" / "result.json").write_text("{")
    assert compare(folder, methods=methods, seeds=2) == 1
    assert "1 of 4 runs failed" in capsys.readouterr().err
    assert [row["n"] for row in table(folder / "comparison.csv")] == ["1", "2"]


def test_runs_of_the_train_command_are_used(tmp_path, runs):
    """As a batch system trains them, one in each job."""
    words = ["--config", "digits", *SMALL]
    for method in ("vanilla", "loss_sum"):
        folder = tmp_path / "c" / method / "seed0"
        assert main(["train", "--preset", method, "--training.seed", "0", "--out", str(folder), *words]) == 0
    command = ["compare", "--methods", "vanilla", "loss_sum", "--seeds", "1", "--out", str(tmp_path / "c"), *words]
    assert main(command) == 0
    assert not runs.trained
    assert [row["variant"] for row in table(tmp_path / "c" / "comparison.csv")] == ["vanilla", "loss_sum"]


def test_a_changed_import_is_reported(tmp_path, runs, capsys):
    (tmp_path / "mine.py").write_text("a = 1")
    runs.imports = [{"name": str(tmp_path / "mine.py"), "sha256": "another"}]
    assert compare(tmp_path / "c", "--import", str(tmp_path / "mine.py")) == 0
    assert f"{tmp_path / 'mine.py'} has changed" in capsys.readouterr().out


def test_data_that_changed_between_runs_are_reported(tmp_path, runs, capsys):
    folder, methods = tmp_path / "c", ["vanilla", "vanilla data.seed=1"]
    assert compare(folder, methods=methods, seeds=2) == 0
    for changed in (False, True):
        for path in folder.glob("*/seed?/environment.json"):
            # Another seed of the data holds out other samples.
            fingerprint = path.parts[-3:-1] if changed else path.parts[-3]
            path.write_text(json.dumps({"data": str(fingerprint)}))
        capsys.readouterr()
        assert compare(folder, methods=methods, seeds=2) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if "the data have changed" in line]
        assert len(lines) == 2 * changed
    assert f"{folder / 'vanilla' / 'seed0'} and {folder / 'vanilla' / 'seed1'}: remove" in lines[0]


def test_a_failing_baseline_leaves_no_differences(tmp_path, runs, capsys):
    methods = ["evolutionary optimizer.lr=5", "vanilla"]
    assert compare(tmp_path / "c", methods=methods) == 1
    streams = capsys.readouterr()
    assert "1 of 2 runs failed" in streams.err
    assert "the loss is NaN" in streams.err
    assert streams.err.count("\n") == 1
    assert "FAILED evolutionary optimizer.lr=5, seed 0: " in streams.out
    assert "baseline evolutionary optimizer.lr=5 has no finished run" in streams.out
    assert table(tmp_path / "c" / "comparison.csv")[0]["difference"] == "nan"


def test_other_files_are_not_overwritten(tmp_path, runs, capsys):
    (tmp_path / "runs.csv").write_text("my own work")
    assert compare(tmp_path) == 1
    assert "runs.csv" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"runs.csv": "my own work"}
    assert not runs.trained


@pytest.mark.parametrize("left", ["vanilla/.shortcut-snn-seed0-0123abcd.yaml", "shortcut/tune/trials/0000.yaml"])
def test_a_comparison_stopped_early_can_be_resumed(tmp_path, runs, left):
    (tmp_path / left).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / left).write_text("{}")
    assert compare(tmp_path) == 0


def test_each_method_is_tuned_before_the_seeds(tmp_path, runs, capsys):
    folder, words = tmp_path / "c", ["--tune", "optimizer.lr=0.01,0.1,0.5,5", "--tune-epochs", "3"]
    assert compare(folder, *words, "--training.epochs", "7", methods=["vanilla,evolutionary"], seeds=2) == 0
    output = capsys.readouterr().out
    assert "FAILED vanilla, tuning optimizer.lr=5: the loss is NaN" in output
    assert "evolutionary, tuning optimizer.lr=0.1: validation accuracy 90.00 %" in output
    assert "vanilla trains with optimizer.lr 0.01 (at the end of those tried)" in output
    assert "evolutionary trains with optimizer.lr 0.1\n" in output
    assert [recipe.training.epochs for _, recipe in runs.trained] == [3] * 8 + [7] * 4
    finals = [(name, recipe.optimizer.lr) for name, recipe in runs.trained[8:]]
    assert finals == [("seed0", 0.01), ("seed0", 0.1), ("seed1", 0.01), ("seed1", 0.1)]
    rows = table(folder / "evolutionary" / "tune" / "trials.csv")
    assert [(row["optimizer.lr"], row["error"]) for row in rows] == [
        ("0.01", ""), ("0.1", ""), ("0.5", ""), ("5", "the loss is NaN"),
    ]  # fmt: skip
    assert float(rows[0]["validation"]) == pytest.approx(0.81)
    assert "0.01 (at the end of those tried)" in write_page(folder).read_text()
    # Only what failed is tried again.
    runs.trained.clear()
    assert compare(folder, *words, "--training.epochs", "7", methods=["vanilla,evolutionary"], seeds=2) == 0
    assert [(name, recipe.optimizer.lr) for name, recipe in runs.trained] == [("optimizer.lr=5", 5)] * 2


def test_a_full_disk_is_no_bad_value(tmp_path, runs, capsys):
    runs.error = "checkpoint.ckpt could not be written: No space left on device"
    assert compare(tmp_path / "c", "--tune", "optimizer.lr=0.1,5") == 1
    assert "No space left" in capsys.readouterr().err
    assert not list(tmp_path.glob("c/*/seed*"))


def test_a_run_of_another_recipe_is_no_bad_value(tmp_path, runs, capsys):
    assert compare(tmp_path / "c", "--tune", "optimizer.lr=0.01,0.1", "--tune-epochs", "2") == 0
    runs.trained.clear()
    assert compare(tmp_path / "c", "--tune", "optimizer.lr=0.01,0.1,0.5", "--tune-epochs", "3") == 1
    assert "has another recipe (training.epochs was 2 and is 3)" in capsys.readouterr().err
    assert [recipe.optimizer.lr for _, recipe in runs.trained] == [0.5]


@pytest.mark.parametrize(
    ("words", "keyword"),
    [
        (["--tune", "optimizer.lrr=1,2"], "lrr"),
        (["--tune", "optimizer.lr"], "KEY=A,B"),
        (["--tune", "optimizer.lr=1,2", "--grid", "optimizer.lr=3,4"], "--grid"),
        (["--tune", "training.seed=1,2"], "--seeds"),
        (["--tune", "data.validation=0.1,0.5"], "data.validation"),
        (["--tune", "optimizer.lr=1,2", "--tune-epochs", "0"], "training.epochs"),
        (["--tune-epochs", "2"], "--tune"),
        (["--tune", "optimizer.lr=1,2", "--training.seed", "4294967295", "--seeds", "2"], "training.seed"),
        (["--tune", "optimizer.lr=1,2", "--data.validation", "0"], "--data.validation 0.1"),
    ],
)
def test_wrong_tuning_is_refused_before_any_run(tmp_path, capsys, words, keyword):
    assert compare(tmp_path / "c", *words) > 0
    assert keyword in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_a_method_fails_if_none_of_its_values_trains(tmp_path, runs, capsys):
    assert compare(tmp_path / "c", "--tune", "optimizer.lr=5,9", methods=["vanilla", "shortcut optimizer.lr=0.1"]) == 1
    streams = capsys.readouterr()
    assert "--tune" in streams.err
    assert "vanilla" in streams.err
    assert "the loss is NaN" in streams.out
    # The other method is trained all the same.
    assert [row["variant"] for row in table(tmp_path / "c" / "comparison.csv")] == ["shortcut optimizer.lr=0.1"]
