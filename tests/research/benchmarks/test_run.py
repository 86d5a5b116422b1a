"""A tiny run measures, writes its files, and does not measure again what is there."""

import csv
import shutil
from dataclasses import replace

import pytest

from research.benchmarks import against, cli, identity, tasks
from research.benchmarks.cell import Cell
from research.benchmarks.measure.contest import Effort
from research.benchmarks.measure.process import ROOT, Worker, WorkerFailed
from research.benchmarks.plan import Plan
from research.benchmarks.report import chart
from research.benchmarks.report.figures import Figure
from research.benchmarks.report.write import write
from research.benchmarks.results import Result, Store
from research.benchmarks.run import measure

CELL = Cell("networks", "resnet18", width=4, batch=2, time_steps=2, size=8, classes=5)
TINY = Plan((CELL,), Effort(rounds=1, untimed=1, timed=2, memory=1), ("shortcut-snn", "spikingjelly"))


def test_a_tiny_run_writes_its_files_and_resumes(tmp_path):
    store = Store(tmp_path / "cells", TINY, "cpu", 1)
    lines: list[str] = []
    measure(TINY, store, "cpu", 1, lines.append)
    (result,) = store.read()
    assert result.cell == CELL
    assert set(result.contenders) == set(TINY.contenders)
    for figures in result.contenders.values():
        assert [len(figures[each]) for each in ("step", "inference", "memory")] == [2, 2, 1]
        assert min(figures["step"]) > 0
    paths = write(store, tmp_path)
    assert [path.name for path in paths] == ["benchmark.md", "benchmark.csv", "benchmark.png"]
    assert all(path.stat().st_size > 100 for path in paths)
    report = paths[0].read_text()
    assert "spikingjelly 2.0.0" in report
    assert "| shortcut-snn |" in report
    with open(paths[1]) as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3
    row = next(row for row in rows if row["contender"] == "shortcut-snn" and row["quantity"] == "step")
    assert row["best_peer"] == "spikingjelly"
    assert float(row["lowest"]) <= float(row["median"]) <= float(row["highest"])
    lines.clear()
    measure(TINY, store, "cpu", 1, lines.append)
    assert len(lines) == 2  # the number of cells, none of which is left, and the time it took
    assert "1 of them measured before" in lines[0]


def test_networks_at_given_firing_rates(tmp_path):
    cells = [replace(cell, size=16, width=16) for cell in TINY.at_rates([0.1, 0.3]).cells]
    rates = []
    for cell in cells:
        observed = tasks.build(cell, "shortcut-snn", "cpu", tasks.shared_state(cell)).observe(True)
        rates.append(sum(observed.rates) / len(observed.rates))
    assert rates == pytest.approx([0.1, 0.3], abs=0.05)
    store = Store(tmp_path / "cells", TINY, "cpu", 1)
    about = store.about | {"commit": "", "when": "today"}
    for cell in cells:
        store.write(Result(cell, {name: {"step": [1.0]} for name in TINY.contenders}, [], about))
    assert [path.name for path in write(store, tmp_path)] == ["benchmark.md", "benchmark.csv", "rates.png"]
    assert "10% spikes" in (tmp_path / "benchmark.md").read_text()


def test_the_chart_of_lif_neurons_has_no_others(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(chart, "_lines", lambda axis, figures, *rest: drawn.extend(f.cell.network for f in figures))
    cells = [Cell("neuron", f"linear-{name}", width=2048, batch=16, time_steps=500) for name in ("lif", "ilif")]
    found = [Figure(cell, "shortcut-snn", "step", "s", 1.0, 1.0, 1.0, 1) for cell in cells]
    chart.draw(tmp_path / "benchmark.png", found, [])
    assert set(drawn) == {"linear-lif"}


def test_another_setting_is_another_result(tmp_path):
    efforts = [TINY, replace(TINY, effort=Effort(rounds=2))]
    assert len({Store(tmp_path, plan, "cpu", threads).key for plan in efforts for threads in (1, 2)}) == 4


def test_dynamics_and_break_even_rates_are_code_that_is_timed(tmp_path, monkeypatch):
    """Results of other dynamics, or of kernels chosen by another table, are not taken."""
    timed = {"dynamics.py": identity._HERE, "break_even.csv": identity._PACKAGE / "neurons"}
    for name, folder in timed.items():
        copies = [tmp_path / name if path in (folder, folder / name) else path for path in identity._TIMED]
        assert tmp_path / name in copies
        if folder in identity._TIMED:
            (tmp_path / name).mkdir()
            shutil.copy(folder / name, tmp_path / name)
        else:
            shutil.copy(folder / name, tmp_path)
        monkeypatch.setattr(identity, "_TIMED", copies)
        before = identity.code()
        (changed,) = [path for path in [tmp_path / name, *(tmp_path / name).glob("*")] if path.is_file()]
        changed.write_text(changed.read_text() + "\n")
        assert identity.code() != before
        monkeypatch.undo()


def test_a_machine_without_git_measures_too(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert identity.commit() == ""


def test_a_failing_contender_is_named():
    with Worker(1) as worker, pytest.raises(WorkerFailed, match="AssertionError"):
        worker.ask("turn", what="step", untimed=0, timed=1)  # nothing is built yet


def test_another_checkout_runs_its_own_code(tmp_path):
    for folder in ("src", "research/benchmarks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "trained"))
    (tmp_path / "research" / "__init__.py").touch()
    worker = tmp_path / "research" / "benchmarks" / "measure" / "worker.py"
    worker.write_text(worker.read_text().replace("time.perf_counter() - start", "7.0"))
    here, there = against.seconds(CELL, [ROOT, tmp_path], threads=1, rounds=1)
    assert there == [7.0] * 3
    assert len(here) == 3
    assert 0 < min(here) < 7


def test_the_command_reports_what_is_there(tmp_path, capsys):
    cli.main(["--report", "--out", str(tmp_path), "--device", "cpu", "--threads", "1"])
    assert (tmp_path / "benchmark.md").read_text().startswith("# Benchmark")
    assert "wrote" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["--only", "everything"])
