"""Searches: what a space may say, what is refused before any run, and one that is killed and goes on."""

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
import time

import pytest
from markupsafe import Markup

from shortcut_snn.cli import main
from shortcut_snn.cli.report import write_page
from shortcut_snn.recipes.entries import read_recipe, write_recipe
from shortcut_snn.recipes.imports import import_components

optuna = pytest.importorskip("optuna", reason="Optuna is not installed (extra sweep)")

from shortcut_snn.cli._children import Stopped  # noqa: E402
from shortcut_snn.cli.report.html import Page  # noqa: E402
from shortcut_snn.cli.sweep import page as paging  # noqa: E402
from shortcut_snn.cli.sweep import search as searching  # noqa: E402
from shortcut_snn.cli.sweep.space import at, read_space  # noqa: E402

SMALL = ["--data.train_limit", "60", "--data.test_limit", "30", "--data.batch_size", "50", "--training.threads", "1"]
SMALL += ["--network.kind", "resnet8", "--network.width", "2", "--network.time_steps", "1"]


def space(tmp_path, text):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("optimizer.lrr: {low: 0.1, high: 1}", "optimizer 'adamw' has no entry 'lrr' (did you mean lr?)"),
        ("optimiser.lr: {low: 0.1, high: 1}", "has no entry 'optimiser' (did you mean optimizer?)"),
        ("optimizer.lr: {low: 0.1, hihg: 1}", "optimizer.lr: there is no 'hihg' (did you mean high?)"),
        ("optimizer.lr: {low: 0.1}", "optimizer.lr: high is missing"),
        ("optimizer.lr: {low: 1, high: 0.1}", "low is below high, got 1 and 0.1"),
        ("optimizer.lr: {low: 0, high: 0.1, log: true}", "low is above 0"),
        ("optimizer.lr: {low: 0.1, high: 1, log: yes}", "log is true or false, got 'yes'"),
        ("optimizer.lr: {low: 0.1, high: 1, step: 2}", "step is for a range"),
        ("optimizer.lr: {low: small, high: 1}", "low is a number, got 'small'"),
        ("optimizer.lr: {low: -1, high: 1}", "optimizer.lr"),
        ("optimizer.lr: [0.1, 1]", "write {low: 0.001"),
        ("optimizer.lr: {choices: [0.1], log: true}", "choices stand alone, without log"),
        ("optimizer.lr: {choices: 0.1}", "choices is a list"),
        ("network.width: {low: 1.5, high: 8}", "network.width should be an integer"),
        ("network.block: {choices: [basic, sw]}", "network.block"),
        ("optimizer.kind: {choices: [adamw, sgdd]}", "unknown optimizer 'sgdd' (did you mean sgd?)"),
        ("training.seed: {low: 0, high: 9}", "the same for all"),
        ("training: {choices: [{seed: 0}, {seed: 1}]}", "training.seed decides what trials are judged by"),
        ("data: {choices: [{validation: 0.1}, {validation: 0.5}]}", "data.validation decides what trials"),
        ("data.train_limit: {low: 60, high: 1000}", "data.train_limit decides what trials are judged by"),
        ("[1", "is not YAML"),
        ("", "is no space"),
    ],
    ids=range(22),
)
def test_a_space_that_makes_no_sense_is_refused_before_any_run(tmp_path, capsys, text, said):
    command = ["sweep", "--config", "digits", "--space", str(space(tmp_path, text)), "--out", str(tmp_path / "s")]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "space.yaml" in error
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sampler", "tp"], "--sampler: no 'tp' (did you mean tpe?)"),
        (["--sampler", "tpe n_startup_trial=3"], "tpe takes no 'n_startup_trial' (did you mean n_startup_trials?)"),
        (["--sampler", ""], "--sampler: no ''"),
        (["--sampler", "tpe 'n_startup_trials=3"], '--sampler: no closing quotation in "tpe \'n_startup_trials=3"'),
        (["--sampler", "random seed=5"], "--sampler: seed of random is the recipe's: say --training.seed 5"),
        (["--sampler", "brute_force"], "optimizer.lr: brute_force tries all values: give a step, or choices"),
        (["--pruner", "mediann"], "did you mean median?"),
        (["--pruner", "median n_startup_trials=-1"], "--pruner median n_startup_trials=-1: "),
        (["--sampler", "tpe n_startup_trials=a"], "--sampler: n_startup_trials of tpe is int, got 'a'"),
        (["--sampler", "tpe n_startup_trials=2.5"], "--sampler: n_startup_trials of tpe is int, got 2.5"),
        (["--trials", "0"], "--trials must be at least 1"),
        (["--space", "nowhere.yaml"], "there is no file nowhere.yaml"),
        (["--data.validation", "0"], "holds out none: add --data.validation 0.1"),
    ],
    ids=range(13),
)
def test_what_makes_no_sense_is_refused(tmp_path, capsys, words, said):
    path = space(tmp_path, "optimizer.lr: {low: 0.001, high: 0.1, log: true}")
    command = ["sweep", "--config", "digits", "--space", str(path), "--out", str(tmp_path / "s"), *SMALL]
    assert main([*command, *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "s" / "trials").exists()


def test_a_missing_extra_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    path = space(tmp_path, "optimizer.lr: {low: 0.001, high: 0.1}")
    assert main(["sweep", "--config", "digits", "--space", str(path), "--out", str(tmp_path / "s")]) == 2
    assert "pip install 'shortcut-snn[sweep]'" in capsys.readouterr().err


def test_what_is_drawn_is_what_the_entries_take(tmp_path):
    text = """
    optimizer.lr: {low: 1, high: 4}
    network.width: {low: 2, high: 9}
    neuron.decay: {low: 0.25, high: 0.75, step: 0.25}
    network.block: {choices: [basic, sew]}
    optimizer: {choices: [{kind: sgd, momentum: 0.9}, adamw]}
    """
    dimensions = read_space(space(tmp_path, text), {"network": "resnet20"})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    for _ in range(20):
        trial = study.ask()
        drawn = {each.key: each.suggest(trial) for each in dimensions}
        # Whole numbers were written for both; what the entry takes decides.
        assert isinstance(drawn["optimizer.lr"], float)
        assert isinstance(drawn["network.width"], int)
        assert drawn["neuron.decay"] in (0.25, 0.5, 0.75)
        assert drawn["optimizer"] in ({"kind": "sgd", "momentum": 0.9}, "adamw")
        made = at({"network": "resnet20"}, drawn)
        assert made["network"] == {"kind": "resnet20", "width": drawn["network.width"], "block": drawn["network.block"]}
        assert made["optimizer"]["kind"] == ("adamw" if drawn["optimizer"] == "adamw" else "sgd")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            ["method: {choices: [{branches: null}, {branches: {taps: blocks}}]}",
             "method.branches.schedule.initial: {low: 0.1, high: 1.0}"],
            'method={"branches": null} leaves no place for method.branches.schedule.initial=0.1',
        ),
        (
            ["neuron.surrogate.kind: {choices: [triangle, atan]}", "neuron.surrogate.width: {low: 0.5, high: 4.0}"],
            "neuron.surrogate.kind=atan: neuron.surrogate.width: surrogate 'atan' has no entry 'width'",
        ),
        (
            ["optimizer: {choices: [{kind: sgd, lr: 0.1}, adamw]}", "optimizer.lr: {low: 0.01, high: 1}"],
            'optimizer={"kind": "sgd", "lr": 0.1} leaves no place for optimizer.lr=0.01',
        ),
        (
            ["neuron: {choices: [{surrogate: {width: 2}}]}", "neuron.surrogate.kind: {choices: [triangle, atan]}"],
            "neuron.surrogate.kind=atan: neuron.surrogate.width: surrogate 'atan' has no entry 'width'",
        ),
        # No entry is at fault with the first of each other.
        (
            ["method: {choices: [{branches: null}, {branches: {taps: blocks}}]}",
             "method.objective: {choices: [logit_sum, tet]}"],
            "method.branches: the objective tet has no use for branches",
        ),
    ],
    ids=range(5),
)  # fmt: skip
def test_values_that_leave_no_place_for_others_are_refused_in_any_order(tmp_path, lines, said):
    for ordered in (lines, lines[::-1]):
        with pytest.raises(ValueError, match=re.escape(said)):
            read_space(space(tmp_path, "\n".join(ordered)), {})


def test_the_order_of_lines_decides_nothing():
    point = {"neuron.surrogate.alpha": 3.0, "neuron.surrogate.kind": "atan", "method.calibrate": True, "method": {}}
    made = at({}, point)
    assert made["neuron"]["surrogate"] == {"kind": "atan", "alpha": 3.0}
    assert at({"neuron": {"surrogate": "triangle"}}, point) == made
    assert at({}, dict(reversed(point.items()))) == made


def test_ends_of_ranges(tmp_path):
    text = "optimizer.lr: {low: 0.001, high: 1, log: true}\nneuron.decay: {low: 0, high: 0.9}"
    rate, decay = read_space(space(tmp_path, text), {})
    assert [rate.is_end(value) for value in (0.0011, 0.01, 0.9)] == [True, False, True]
    assert [decay.is_end(value) for value in (0.01, 0.1, 0.9)] == [True, False, True]


RESULT = {
    "metric": "accuracy", "higher_is_better": True, "fraction": True, "chance": 0.1, "best_epoch": 1, "epochs": 1,
    "best_chosen_on": "validation", "firing_rate": 0.1, "gradient_ratio_first_epoch": 1.0,
    "gradient_ratio_last_epoch": 1.0, "seconds_per_epoch": 1.0, "seconds_per_step": 0.1, "peak_bytes_per_step": 1,
}  # fmt: skip


class Runs:
    """Stands in for what trains: it leaves a run's files, with a validation accuracy that the learning rate decides."""

    def __init__(self, fail=lambda recipe: False):
        self.fail, self.trained = fail, []

    def __call__(self, children, launcher, recipe, place, imports=(), enough=None, tell=print):
        self.trained.append(place.path.name)
        place.path.mkdir(parents=True)
        write_recipe(recipe, place.recipe)
        place.environment.write_text(json.dumps({"imports": import_components(imports)}))
        if self.fail(recipe):
            raise ValueError("the loss is NaN")
        rows = []
        for epoch in range(recipe.training.epochs):
            rows.append({"epoch": epoch, "validation_accuracy": recipe.optimizer.lr * (epoch + 1) / 10})
            place.write_rows("metrics", rows)
            if enough():
                raise Stopped("stopped")
        reached = {"accuracy": rows[-1]["validation_accuracy"]}
        place.finish(RESULT | {"validation_last": reached, "test_last": reached, "test_best": reached})


@pytest.fixture
def no_page(monkeypatch):
    """Pictures take longer than all the rest."""
    monkeypatch.setattr(paging, "page", lambda search, importances: Page("", "", "", [], [], []))


def search(tmp_path, monkeypatch, runs, *words, count=12, lr="{low: 0.1, high: 0.9}", text=None):
    monkeypatch.setattr(searching, "train", runs)
    path = space(tmp_path, text or f"optimizer.lr: {lr}\nnetwork.block: {{choices: [basic, sew]}}")
    command = ["sweep", "--config", "digits", "--space", str(path), "--out", str(tmp_path / "s"), *SMALL]
    return main([*command, "--training.epochs", "4", "--trials", str(count), *words])


def rows_of(tmp_path):
    return list(csv.DictReader((tmp_path / "s" / "trials.csv").open()))


def test_trials_that_are_no_good_are_stopped_and_the_page_says_what_mattered(tmp_path, monkeypatch, capsys):
    runs = Runs()
    assert search(tmp_path, monkeypatch, runs, "--pruner", "median n_startup_trials=4") == 0
    said = capsys.readouterr().out
    rows = rows_of(tmp_path)
    assert {row["state"] for row in rows} == {"complete", "pruned"}
    stopped = [row for row in rows if row["state"] == "pruned"]
    assert all(int(row["epochs"]) < 4 for row in stopped)
    assert f"stopped after {stopped[0]['epochs']} epochs" in said
    best = max((row for row in rows if row["state"] == "complete"), key=lambda row: float(row["optimizer.lr"]))
    assert f"Trial {best['trial']} is best" in said
    assert read_recipe(tmp_path / "s" / "best.yaml").optimizer.lr == float(best["optimizer.lr"])
    page = (tmp_path / "s" / "sweep.html").read_text()
    # Of two entries, the one that decides is the one that mattered.
    share = int(re.search(r"optimizer\.lr mattered most: (\d+) %", page)[1])
    assert share > 80
    assert page.count("<svg") == 4
    assert not re.search(r"""(src|href)=["']?(http|//)""", page)
    (line,) = [line for line in said.splitlines() if line.startswith("train the best: shortcut-snn ")]
    assert main([*shlex.split(line)[4:], "--print-recipe"]) == 0


def test_a_search_goes_on_as_if_it_had_not_stopped(tmp_path, monkeypatch, capsys, no_page):
    (tmp_path / "once").mkdir()
    assert search(tmp_path / "once", monkeypatch, Runs(), "--sampler", "tpe n_startup_trials=3", count=8) == 0
    for count, trained in ((3, 3), (8, 5), (8, 0)):
        runs = Runs()
        assert search(tmp_path, monkeypatch, runs, "--sampler", "tpe n_startup_trials=3", count=count) == 0
        assert len(runs.trained) == trained
    assert rows_of(tmp_path) == rows_of(tmp_path / "once")
    capsys.readouterr()
    # Another search is not taken for this one.
    assert search(tmp_path, monkeypatch, Runs(), "--network.width", "4") == 2
    assert "holds another search (recipe.network.width was 2 and is 4)" in capsys.readouterr().err
    assert search(tmp_path, monkeypatch, Runs(), lr="{low: 0.1, high: 0.8}") == 2
    assert "space.optimizer.lr.high was 0.9 and is 0.8" in capsys.readouterr().err
    (tmp_path / "s" / "study.db").write_text("no database")
    assert search(tmp_path, monkeypatch, Runs()) == 2
    assert "study.db is damaged" in capsys.readouterr().err


def test_a_value_at_which_training_fails_is_not_chosen(tmp_path, monkeypatch, capsys, no_page):
    assert search(tmp_path, monkeypatch, Runs(lambda recipe: recipe.optimizer.lr > 0.5), count=6) == 0
    rows = rows_of(tmp_path)
    assert {row["state"] for row in rows} == {"complete", "fail"}
    assert read_recipe(tmp_path / "s" / "best.yaml").optimizer.lr < 0.5
    assert "FAILED trial" in capsys.readouterr().out


def test_a_search_of_which_nothing_comes_ends_early(tmp_path, monkeypatch, capsys, no_page):
    runs = Runs(lambda recipe: True)
    assert search(tmp_path, monkeypatch, runs, count=40) == 1
    assert len(runs.trained) == 3
    assert "the first 3 trials failed, the last with: the loss is NaN" in capsys.readouterr().err


def test_an_option_of_another_choice_makes_another_search(tmp_path, monkeypatch, capsys, no_page):
    text = "optimizer.kind: {choices: [adamw, sgd]}"
    words = ["--sampler", "brute_force", "--optimizer.kind", "sgd", "--optimizer.lr", "0.1", "--optimizer.momentum"]

    def again(momentum):
        # Of two that are as good, the best is the first.
        runs = Runs(lambda recipe: recipe.to_dict()["optimizer"]["kind"] == "adamw")
        return search(tmp_path, monkeypatch, runs, *words, momentum, count=2, text=text)

    assert again("0.9") == again("0.9") == 0
    capsys.readouterr()
    assert again("0.5") == 2
    assert 'choices.optimizer.kind="sgd".optimizer.momentum was 0.9 and is 0.5' in capsys.readouterr().err
    # A search of an earlier version does not know, and what is best is what was trained.
    about = json.loads((tmp_path / "s" / "sweep.json").read_text())
    del about["choices"]
    (tmp_path / "s" / "sweep.json").write_text(json.dumps(about))
    assert again("0.5") == 0
    assert read_recipe(tmp_path / "s" / "best.yaml").to_dict()["optimizer"]["momentum"] == 0.9


@pytest.mark.parametrize("words", [[], ["--jobs", "2"]], ids=str)
def test_brute_force_ends_when_all_has_been_tried(tmp_path, monkeypatch, capsys, no_page, words):
    text = "network.block: {choices: [basic, sew]}\nneuron.decay: {low: 0.3, high: 0.5, step: 0.1}"
    for trained in (6, 0):
        runs = Runs()
        assert search(tmp_path, monkeypatch, runs, "--sampler", "brute_force", *words, text=text) == 0
        assert len(runs.trained) == trained
        said = capsys.readouterr().out
        assert "all combinations of values have been tried" in said
        assert "is best" in said
    rows = rows_of(tmp_path)
    assert len({(row["network.block"], row["neuron.decay"]) for row in rows}) == len(rows) == 6


def test_trials_that_cannot_be_trained_again_are_named(tmp_path, monkeypatch, capsys, no_page):
    mine = tmp_path / "mine.py"
    mine.write_text("a = 1")
    words = ["--import", str(mine), "--pruner", "none"]
    assert search(tmp_path, monkeypatch, Runs(), *words, count=2) == 0
    mine.write_text("a = 2")
    capsys.readouterr()
    assert search(tmp_path, monkeypatch, Runs(), *words, count=2) == 0
    said = capsys.readouterr().out
    assert "to train with it as it is now, search anew in another folder" in said
    assert "folders are gone" not in said
    shutil.rmtree(tmp_path / "s" / "trials" / "0001")
    assert search(tmp_path, monkeypatch, Runs(), *words, count=2) == 0
    assert "values stand of trials whose folders are gone (1): to train again, search anew" in capsys.readouterr().out


def test_the_page_says_what_was_searched_not_the_first_choice(tmp_path, monkeypatch):
    monkeypatch.setattr(paging, "_picture", lambda name, draw: Markup(""))
    text = "optimizer.lr: {low: 0.1, high: 0.9}\nmethod: {choices: [{branches: null}, {branches: {taps: blocks}}]}\n"
    text += "neuron.surrogate.kind: {choices: [atan, triangle]}"
    assert search(tmp_path, monkeypatch, Runs(), count=1, text=text) == 0
    page = (tmp_path / "s" / "sweep.html").read_text()
    rows = dict(re.findall(r"<tr><t[dh]>([\w.]+)</t[dh]><td>(.*?)</td>", re.sub(r">\s+<", "><", page)))
    for key in ("method.branches", "optimizer.lr", "neuron.surrogate.kind", "neuron.surrogate.alpha"):
        assert rows[key] == "searched", key
    assert rows["network.kind"] == "resnet8"
    assert "no branches" not in page
    assert "searched: optimizer.lr, method, neuron.surrogate.kind" in page


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_a_search_that_is_killed_goes_on_and_its_trials_are_runs(tmp_path, capsys):
    """The real thing: ``kill -9`` in a trial, then the same command."""
    path = space(tmp_path, "optimizer.lr: {low: 0.001, high: 0.1, log: true}")
    folder = tmp_path / "s"
    command = ["sweep", "--config", "digits", "--space", str(path), "--out", str(folder), "--trials", "2", *SMALL]
    command += ["--training.epochs", "5", "--pruner", "none"]
    log, deadline = folder / "trials" / "0000.log", time.monotonic() + 1800
    with (tmp_path / "said").open("wb") as said:
        parent = subprocess.Popen([sys.executable, "-m", "shortcut_snn", *command], stdout=said, stderr=said)
    try:
        while not (log.is_file() and "epoch 2/5" in log.read_text()):
            assert time.monotonic() < deadline
            assert parent.poll() is None, (tmp_path / "said").read_text()
            time.sleep(0.05)
    finally:
        parent.kill()
        parent.wait()
    while "interrupted" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    drawn = json.loads(json.dumps(read_recipe(folder / "trials" / "0000.yaml").to_dict()))
    assert main(command) == 0
    assert "2 trials in" in capsys.readouterr().out
    rows = rows_of(tmp_path)
    assert [row["state"] for row in rows] == ["complete", "complete"]
    # The trial was not drawn anew, and went on where it was.
    assert float(rows[0]["optimizer.lr"]) == drawn["optimizer"]["lr"]
    assert [line.split(":")[0] for line in log.read_text().splitlines() if "/5: loss" in line] == [
        f"epoch {epoch}/5" for epoch in range(1, 6)
    ]
    assert write_page(folder / "trials" / "0000").is_file()
    assert main(["evaluate", str(folder / "trials" / "0001")]) == 0
