"""A tiny run measures, writes its files, and does not measure again what is there."""

import csv
import shutil
from dataclasses import replace

import pytest

from benchmarks import against, cli, plan
from benchmarks.cell import Cell
from benchmarks.measure.contest import Effort
from benchmarks.measure.process import ROOT, Worker, WorkerFailed
from benchmarks.plan import Plan
from benchmarks.report.write import write
from benchmarks.results import Result, Store
from benchmarks.run import measure

CELL = Cell("networks", "resnet18", width=4, batch=2, time_steps=2, size=8, classes=5)
TINY = Plan(
    (CELL,),
    ("default",),
    Effort(rounds=1, untimed=1, timed=2, memory=1),
    ("shortcut-snn", "spikingjelly", "convolutions only"),
)


def test_a_tiny_run_writes_its_files_and_goes_on(tmp_path):
    store = Store(tmp_path / "cells", TINY, "cpu", 1)
    lines: list[str] = []
    measure(TINY, store, "cpu", 1, lines.append)
    (result,) = store.read()
    assert set(result.contenders) == set(TINY.contenders)
    for figures in result.contenders.values():
        assert [len(figures[each]) for each in ("step", "inference", "memory")] == [2, 2, 1]
        assert min(figures["step"]) > 0
    paths = write(store, tmp_path)
    assert [path.name for path in paths] == ["benchmark.md", "benchmark.csv", "agreement.md", "benchmark.png"]
    assert all(path.stat().st_size > 100 for path in paths)
    report = paths[0].read_text()
    assert "spikingjelly 2.0.0" in report
    assert "| shortcut-snn |" in report
    assert paths[2].read_text().count("| yes |") == 8  # two contenders, two checks, two kinds of statistics
    with open(paths[1]) as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 3
    row = next(row for row in rows if row["contender"] == "shortcut-snn" and row["quantity"] == "step")
    assert row["best_peer"] == "spikingjelly"
    assert float(row["lowest"]) <= float(row["median"]) <= float(row["highest"])
    lines.clear()
    measure(TINY, store, "cpu", 1, lines.append)
    assert len(lines) == 2  # what there is to do, which is nothing, and how long it took
    assert "1 of them measured before" in lines[0]


def test_networks_that_are_only_used(tmp_path):
    contenders = ("shortcut-snn, as trained", "shortcut-snn, deployed", "spikingjelly", "convolutions only")
    used = replace(TINY, cells=(replace(CELL, part="inference"),), contenders=contenders)
    store = Store(tmp_path / "cells", used, "cpu", 1)
    measure(used, store, "cpu", 1, lambda line: None)
    (result,) = store.read()
    assert set(result.contenders) == set(contenders)
    for figures in result.contenders.values():
        assert [len(figures[each]) for each in ("inference", "memory")] == [2, 1]
        assert "step" not in figures
    report = write(store, tmp_path)[0].read_text()
    assert "### inference: resnet18-4, batch 2, T = 2, float32" in report


def test_a_failing_contender_is_named():
    with Worker("tuned", 1) as worker, pytest.raises(WorkerFailed, match="AssertionError"):
        worker.ask("turn", what="step", untimed=0, timed=1)  # nothing is built yet


def test_another_checkout_runs_its_own_code(tmp_path, monkeypatch):
    monkeypatch.setenv("SHORTCUT_SNN_BACKEND", "eager")  # it has no compiled kernels yet
    for folder in ("src", "benchmarks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "trained"))
    worker = tmp_path / "benchmarks" / "measure" / "worker.py"
    worker.write_text(worker.read_text().replace("time.perf_counter() - start", "7.0"))
    here, there = against.seconds(CELL, [ROOT, tmp_path], threads=1, rounds=2)
    assert there == [7.0] * 6
    assert len(here) == 6
    assert 0 < min(here) < 7


def test_another_setting_is_another_result(tmp_path):
    stores = [
        Store(tmp_path, TINY, "cpu", 1),
        Store(tmp_path, TINY, "cpu", 2),
        Store(tmp_path, replace(TINY, effort=Effort(rounds=2)), "cpu", 1),
    ]
    assert len({store.key for store in stores}) == 3
    stores[0].write(Result(CELL, "default", {}, [], None, {}))
    assert [store.has(CELL, "default") for store in stores] == [True, False, False]
    assert stores[0].read()[0].cell == CELL


def fake(cell: Cell, allocator: str, steps: dict[str, float], memory: dict[str, float]) -> Result:
    contenders = {name: {"step": [s], "inference": [s / 3], "memory": [memory.get(name, 1e8)]} for name, s in steps.items()}  # noqa: E501  # fmt: skip
    about = {
        "machine": {"processor": "a processor", "instructions": [], "threads": 2, "system": "Linux"},
        "versions": {"torch": "2"}, "code": "c", "commit": "", "when": "2025-01-01 00:00",
    }  # fmt: skip
    operators = {"operators": {"add": 1}, "stripped": True, "wrapped": True, "equal": True}
    return Result(cell, allocator, contenders, [], operators if cell.part == "method" else None, about)


def test_the_targets_are_read_off_the_figures(tmp_path):
    store = Store(tmp_path / "cells", plan.full(), "cpu", 1)
    seconds = {"shortcut-snn": 0.55, "spikingjelly": 0.8, "snntorch, fused in time": 0.7, "convolutions only": 0.6,
               "convolutions only, channels-last": 0.5, "spikingjelly, memory-optimised": 0.9}  # fmt: skip
    for cell in plan.full().cells:
        t, fast = cell.time_steps, 0.5 if cell.precision == "bfloat16" else 1.0
        if cell.part == "networks":
            memory = {"shortcut-snn": (100 + 10 * t) * 1e6, "spikingjelly": (100 + 200 * t) * 1e6}
            steps = {name: s * fast for name, s in seconds.items()}
        elif cell.part == "neuron":
            steps, memory = {"shortcut-snn": 1.0, "spikingjelly": 4.0, "snntorch": 4.0, "linear layer only": 0.9}, {}
        elif cell.part == "inference":
            steps, memory = (
                {"shortcut-snn, deployed": 0.9 * fast, "spikingjelly": 1.5, "convolutions only": 0.8 * fast},
                {},
            )
        else:
            steps, memory = {"without branches": 0.99, "with branches": 1.0}, {}
        store.write(fake(cell, "default", steps, memory))
    report = write(store, tmp_path)[0].read_text()

    def line(start: str) -> str:
        return next(line for line in report.splitlines() if line.startswith(f"| {start}"))

    assert line("training step / convolutions only, resnet18-64, T = 4, float32").endswith(
        "| <= 1.12 | 1.100 |  | met |"
    )
    assert "0.786 |  | met" in line("training step / best peer, resnet18-64, T = 4, float32")
    assert "0.786 |  | **missed**" in line("training step / best peer, resnet18-16, T = 4, float32")
    assert "0.393 |  | met" in line("the faster precision / best peer in float32, resnet18-64")
    assert "0.106 |  | met" in line("peak memory of a step / spikingjelly, resnet18-64")
    assert "0.050 |  | met" in line("growth of that memory from T = 2 to 8 / spikingjelly |")
    assert "shown only" in line("peak memory of a step / spikingjelly, memory-optimised")
    assert "0.250 |  | met" in line("Linear(512, 512) + LIF / spikingjelly")
    assert "0.250 |  | **missed**" in line("Linear(512, 512) + LIF / snntorch")
    assert "0.010 |  | met" in line("branches' share of a step, resnet18-64, T = 4, float32")
    assert line("operators at inference").endswith("met |")
    assert "0.600 |  | **missed**" in line("inference, deployed / spikingjelly, resnet18-64, T = 4, float32")
    assert "0.300 |  | met" in line("inference, the faster precision / spikingjelly in float32, resnet18-16")
    assert "1.125 |  | shown only" in line("inference, deployed / convolutions only, resnet18-64, T = 4, float32")


def test_the_command_reports_what_is_there(tmp_path, capsys):
    cli.main(["--report", "--out", str(tmp_path), "--device", "cpu", "--threads", "1"])
    assert (tmp_path / "benchmark.md").read_text().startswith("# Benchmark")
    assert "wrote" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["--only", "everything"])
