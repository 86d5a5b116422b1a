"""Searches: the search space, what is refused before any run, pruning, and a search that is killed and continued."""

import shlex
import sqlite3
import subprocess
import sys
import time

import pytest

from shortcut_snn.cli import main
from shortcut_snn.recipes import recipe_of

from .fake_runs import FakeRuns, table

optuna = pytest.importorskip("optuna", reason="Optuna is not installed (extra sweep)")
sqlalchemy = pytest.importorskip("sqlalchemy")

from shortcut_snn.cli.sweep.space import entries_at, is_near_end, point_of, read_space  # noqa: E402

SMALL = ["--data.train_limit", "60", "--data.test_limit", "30", "--data.batch_size", "50", "--training.threads", "1"]
SMALL += ["--network.kind", "resnet8", "--network.width", "2", "--network.time_steps", "1"]


def space(tmp_path, text):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "keyword"),
    [
        ("optimizer.lrr: {low: 0.1, high: 1}", "lrr"),
        ("optimizer.lr: {low: 0.1, hihg: 1}", "optimizer.lr: write {low"),
        ("optimizer.lr: {low: 1, high: 0.1}", "low <= high"),
        ("optimizer.lr: {low: 0.1, high: 1, log: yes}", "log: true"),
        ("optimizer.lr: {low: small, high: 1}", "write {low"),
        ("optimizer.lr: {low: -1, high: 1}", "optimizer.lr=-1"),
        ("network.width: {low: 1.5, high: 8}", "network.width"),
        ("optimizer.kind: {choices: [adamw, sgdd]}", "sgdd"),
        ("training.seed: {low: 0, high: 9}", "training.seed"),
        ("data: {choices: [{validation: 0.1}, {validation: 0.5}]}", "data.validation"),
        ("neuron.surrogate.kind: {choices: [triangle, atan]}\nneuron.surrogate.width: {low: 1, high: 4}", "atan"),
        ("[1", "YAML"),
        ("", "search space"),
    ],
)
def test_a_wrong_space_is_refused_before_any_run(tmp_path, capsys, text, keyword):
    command = ["sweep", "--config", "digits", "--space", str(space(tmp_path, text)), "--out", str(tmp_path / "s")]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert keyword in error
    assert "space.yaml" in error
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("words", "keyword"),
    [
        (["--sampler", "tp"], "tpe"),
        (["--space", "nowhere.yaml"], "nowhere.yaml"),
        (["--data.validation", "0"], "--data.validation 0.1"),
    ],
)
def test_wrong_options_are_refused_before_any_run(tmp_path, capsys, words, keyword):
    path = space(tmp_path, "optimizer.lr: {low: 0.001, high: 0.1, log: true}")
    command = ["sweep", "--config", "digits", "--space", str(path), "--out", str(tmp_path / "s"), *SMALL]
    assert main([*command, *words]) > 0
    assert keyword in capsys.readouterr().err
    assert not (tmp_path / "s" / "trials").exists()


def test_a_missing_extra_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    path = space(tmp_path, "optimizer.lr: {low: 0.001, high: 0.1}")
    assert main(["sweep", "--config", "digits", "--space", str(path), "--out", str(tmp_path / "s")]) == 1
    assert "shortcut-snn[sweep]" in capsys.readouterr().err


def test_drawn_values_are_what_the_entries_take(tmp_path):
    text = """
    optimizer.lr: {low: 1, high: 4}
    network.width: {low: 2, high: 9}
    neuron.decay: {low: 0.25, high: 0.75, step: 0.25}
    network.block: {choices: [basic, sew]}
    neuron.surrogate.alpha: {low: 1.0, high: 3.0}
    neuron.surrogate.kind: {choices: [atan]}
    method: {choices: [{branches: null}, {branches: {taps: blocks}}]}
    """
    distributions = read_space(space(tmp_path, text), {"network": "resnet20"})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    for _ in range(10):
        point = point_of(study.ask(distributions).params)
        # Both were written with integers; the entry decides.
        assert isinstance(point["optimizer.lr"], float)
        assert isinstance(point["network.width"], int)
        assert point["neuron.decay"] in (0.25, 0.5, 0.75)
        entries = entries_at({"network": "resnet20"}, point)
        assert entries["network"] == {
            "kind": "resnet20",
            "width": point["network.width"],
            "block": point["network.block"],
        }
        assert entries["neuron"]["surrogate"] == {"kind": "atan", "alpha": point["neuron.surrogate.alpha"]}
        assert entries["method"]["branches"] in (None, {"taps": "blocks"})


def test_values_near_an_end_of_their_range(tmp_path):
    text = "optimizer.lr: {low: 0.001, high: 1, log: true}\nneuron.decay: {low: 0, high: 0.9}"
    rate, decay = read_space(space(tmp_path, text), {}).values()
    assert [is_near_end(rate, value) for value in (0.0011, 0.01, 0.9)] == [True, False, True]
    assert [is_near_end(decay, value) for value in (0.01, 0.1, 0.9)] == [True, False, True]


@pytest.fixture
def runs(monkeypatch):
    """Runs with a validation accuracy that is their learning rate."""
    return FakeRuns(monkeypatch, lambda recipe: recipe.optimizer.lr)


def search(tmp_path, *words, count=12, lr="{low: 0.1, high: 0.9}"):
    path = space(tmp_path, f"optimizer.lr: {lr}\nnetwork.block: {{choices: [basic, sew]}}")
    command = ["sweep", "--config", "digits", "--space", str(path), "--out", str(tmp_path / "s"), *SMALL]
    return main([*command, "--training.epochs", "2", "--trials", str(count), *words])


def test_trials_are_pruned_and_the_best_is_reported(tmp_path, runs, capsys):
    assert search(tmp_path) == 0
    output = capsys.readouterr().out
    rows = table(tmp_path / "s" / "trials.csv")
    assert {row["state"] for row in rows} == {"complete", "pruned"}
    pruned = [row for row in rows if row["state"] == "pruned"]
    assert all(row["epochs"] == "1" for row in pruned)
    best = max((row for row in rows if row["state"] == "complete"), key=lambda row: float(row["optimizer.lr"]))
    assert f"Trial {best['trial']} is best" in output
    assert recipe_of(tmp_path / "s" / "best.yaml").optimizer.lr == float(best["optimizer.lr"])
    page = (tmp_path / "s" / "sweep.html").read_text()
    assert page.count('<img src="data:image/svg+xml;base64,') == 1
    (line,) = [line for line in output.splitlines() if line.startswith("train the best: shortcut-snn ")]
    assert main([*shlex.split(line)[4:], "--print-recipe"]) == 0


def test_a_continued_search_draws_what_an_uninterrupted_one_would(tmp_path, runs, capsys):
    (tmp_path / "once").mkdir()
    assert search(tmp_path / "once", "--pruner", "none", count=11) == 0
    # TPE draws its first ten trials at random.
    for count, trained in ((3, 3), (11, 8), (11, 0)):
        runs.trained.clear()
        assert search(tmp_path, "--pruner", "none", count=count) == 0
        assert len(runs.trained) == trained
    assert table(tmp_path / "s" / "trials.csv") == table(tmp_path / "once" / "s" / "trials.csv")
    # What may change when a run resumes may change here too.
    assert search(tmp_path, "--training.threads", "2", "--pruner", "none", count=11) == 0
    capsys.readouterr()
    # Another search is not continued.
    assert search(tmp_path, "--network.width", "4") == 1
    assert "network.width" in capsys.readouterr().err
    assert search(tmp_path, lr="{low: 0.1, high: 0.8}") == 1
    assert "optimizer.lr" in capsys.readouterr().err
    (tmp_path / "s" / "study.db").write_text("not a database")
    assert search(tmp_path) == 1
    assert "study.db" in capsys.readouterr().err


def test_a_failing_trial_is_not_chosen(tmp_path, monkeypatch, capsys):
    FakeRuns(monkeypatch, lambda recipe: recipe.optimizer.lr if recipe.optimizer.lr < 0.5 else None)
    assert search(tmp_path, count=6) == 0
    assert {row["state"] for row in table(tmp_path / "s" / "trials.csv")} == {"complete", "fail"}
    assert recipe_of(tmp_path / "s" / "best.yaml").optimizer.lr < 0.5
    assert "FAILED trial" in capsys.readouterr().out


def test_a_search_without_a_finished_trial_says_why(tmp_path, monkeypatch, capsys):
    FakeRuns(monkeypatch, lambda recipe: None)
    assert search(tmp_path, count=2) == 1
    streams = capsys.readouterr()
    assert "the loss is NaN" in streams.out
    assert "no trial has finished" in streams.err


def test_a_changed_import_is_reported(tmp_path, runs, capsys):
    mine = tmp_path / "mine.py"
    mine.write_text("a = 1")
    runs.imports = [{"name": str(mine), "sha256": "another"}]
    assert search(tmp_path, "--import", str(mine), count=2) == 0
    assert f"{mine} has changed" in capsys.readouterr().out


def test_a_search_stays_in_its_folder(tmp_path, runs):
    name = "a%20b?one{x}"
    (tmp_path / name).mkdir()
    assert search(tmp_path / name, count=1) == 0
    assert (tmp_path / name / "s" / "study.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_locked_study_is_named_and_nothing_is_lost(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("shortcut_snn.cli.sweep.search.LOCK_SECONDS", 0.1)
    other = []

    def accuracy(recipe):
        # Another program locks the study while the second trial runs.
        if len(runs.trained) == 2 and not other:
            other.append(sqlite3.connect(tmp_path / "s" / "study.db", check_same_thread=False))
            other[0].execute("begin exclusive")
        return recipe.optimizer.lr

    runs = FakeRuns(monkeypatch, accuracy)
    assert search(tmp_path, count=3) == 1
    error = capsys.readouterr().err
    assert "study.db" in error
    assert "locked" in error
    assert "damaged" not in error
    other[0].close()
    assert search(tmp_path, count=3) == 0
    assert [row["state"] for row in table(tmp_path / "s" / "trials.csv")] == ["complete"] * 3


def test_a_full_disk_stops_the_search_and_costs_no_trial(tmp_path, monkeypatch, capsys):
    runs = FakeRuns(monkeypatch, lambda recipe: recipe.optimizer.lr if len(runs.trained) != 2 else None)
    runs.error = "checkpoint.ckpt could not be written: No space left on device"
    assert search(tmp_path, count=3) == 1
    error = capsys.readouterr().err
    assert "trial 1" in error
    assert "No space left" in error
    assert len(runs.trained) == 2
    assert search(tmp_path, count=3) == 0
    assert [name for name, _ in runs.trained] == ["0000", "0001", "0001", "0002"]
    assert [row["state"] for row in table(tmp_path / "s" / "trials.csv")] == ["complete"] * 3


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_killed_search_continues_its_trial(tmp_path):
    """With a real run: SIGKILL during a trial, then the same command."""
    path = space(tmp_path, "optimizer.lr: {low: 0.001, high: 0.1, log: true}")
    folder = tmp_path / "s"
    command = ["sweep", "--config", "digits", "--space", str(path), "--out", str(folder), "--trials", "1", *SMALL]
    command += ["--training.epochs", "4", "--pruner", "none"]
    log, deadline = folder / "trials" / "0000.log", time.monotonic() + 1800
    with (tmp_path / "output").open("wb") as output:
        parent = subprocess.Popen([sys.executable, "-m", "shortcut_snn", *command], stdout=output, stderr=output)
    try:
        while not (log.is_file() and "epoch 1/4" in log.read_text()):
            assert time.monotonic() < deadline
            assert parent.poll() is None, (tmp_path / "output").read_text()
            time.sleep(0.02)
    finally:
        parent.kill()
        parent.wait()
    while "interrupted" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    drawn = recipe_of(folder / "trials" / "0000.yaml").optimizer.lr
    assert main(command) == 0
    (row,) = table(folder / "trials.csv")
    assert row["state"] == "complete"
    # The trial kept its value, and its run resumed after its last epoch.
    assert float(row["optimizer.lr"]) == drawn
    assert [line.split(":")[0] for line in log.read_text().splitlines() if "/4: loss" in line] == [
        f"epoch {epoch}/4" for epoch in range(1, 5)
    ]
