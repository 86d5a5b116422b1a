"""The demo: it trains its networks, prints the comparison and draws a figure."""

import re
import sys
from pathlib import Path

import pytest

from shortcut_snn.cli import main
from shortcut_snn.recipes import recipe_of
from shortcut_snn.training import RunFolder


def test_the_demo_trains_and_compares_its_networks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"data": {"train_limit": 80, "test_limit": 20, "batch_size": 36}, "network": {"kind": "resnet20"}}
    monkeypatch.setenv("SHORTCUT_SNN_BACKEND", "eager")
    monkeypatch.setattr("shortcut_snn.cli.demo.recipe_of", lambda *layers: recipe_of(*layers, few))
    assert main(["demo", "--out", str(tmp_path / "demo"), "--epochs", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (epoch,) = (line for line in lines if line.startswith("epoch  1/1 "))
    results = {}
    for name in ("baseline", "branches", "initialised"):
        run = RunFolder(tmp_path / "demo" / name / "seed0")
        results[name] = run.read_result()
        assert f"{name} {100 * results[name]['validation_last']['accuracy']:5.1f} %" in epoch
    (sentence,) = (line for line in lines if line.startswith("Of the test images "))
    for result in results.values():
        assert f"{100 * result['test_last']['accuracy']:.0f} %" in sentence
    assert results["baseline"]["parameters"] == results["initialised"]["parameters"]
    kept = " ".join(line for line in lines if "reaches" in line)
    baseline, initialised = (int(number) for number in re.findall(r"(\d+) %", kept))
    assert baseline < 10 <= initialised
    assert all(len(line) <= 120 for line in lines if line.startswith(("epoch", "A spiking", "  b", "All")))
    assert (tmp_path / "demo" / "demo.png").read_bytes().startswith(b"\x89PNG")
    # A second call trains nothing and prints the same. Its last line is a command that runs, also if none is installed.
    monkeypatch.setenv("PATH", "")
    assert main(["demo", "--out", str(tmp_path / "demo"), "--epochs", "1"]) == 0
    output = capsys.readouterr().out
    assert sentence in output
    assert f"`{sys.executable} -m shortcut_snn report {tmp_path / 'demo'}`" in output


def test_files_of_the_user_are_not_overwritten(tmp_path, capsys):
    (tmp_path / "demo.png").write_text("my own work")
    assert main(["demo", "--out", str(tmp_path), "--epochs", "1"]) == 1
    assert "demo.png" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"demo.png": "my own work"}
