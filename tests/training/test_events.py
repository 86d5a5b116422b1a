"""Training on frames of events: recordings of N-MNIST, real ones if they are there."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from shortcut_snn.cli.evaluate import evaluate
from shortcut_snn.deploy.safetensors_files import read_network
from shortcut_snn.recipes import build, changed, recipe_of
from shortcut_snn.recipes.entries import write_recipe

from ..data.events.recordings import nmnist, write_npz
from .small import assert_resumes_bit_identically, train


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    samples, labels = nmnist(80)
    folder = tmp_path_factory.mktemp("recordings")
    return write_npz(folder / "set.npz", samples, labels, {"is_test": np.arange(80) >= 60})


def events(archive: Path, **changes: object) -> dict[str, object]:
    return {
        "data__kind": "events_npz",
        "data__root": archive,
        "data__size": 12,
        "data__cache": archive.parent / "cache",
        "data__batch_size": 20,
        "network__time_steps": 3,
    } | changes


@pytest.fixture(scope="module")
def run(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert train(folder, **events(archive)) == 0
    return folder


def test_a_run_holds_its_split(run: Path) -> None:
    lines = (run / "split.txt").read_text().splitlines()
    parts = [line.split()[0] for line in lines]
    assert (parts.count("train"), parts.count("validation"), parts.count("test")) == (50, 10, 20)
    about = read_network(run / "network.safetensors")[1]["data"]
    assert about["split_sha256"] == hashlib.sha256((run / "split.txt").read_bytes()).hexdigest()
    assert (about["channels"], about["image_size"], about["mean"], about["std"]) == (2, [12, 12], [0, 0], [1, 1])


def test_it_can_be_tested_again_on_the_same_split_only(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    assert evaluate(run).metrics == pytest.approx(result["test_last"], abs=1e-6)
    recipe = recipe_of(run / "recipe.yaml")
    write_recipe(changed(recipe, {"data": {"seed": 1}}), run / "recipe.yaml")
    with pytest.raises(ValueError, match=r"split.*split\.txt"):
        evaluate(run)
    write_recipe(recipe, run / "recipe.yaml")


def test_a_resumed_run_is_the_same(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = events(archive, data__augment='["flip","roll"]', training__seed=5)
    files = "network.safetensors", "metrics.csv", "split.txt"
    assert_resumes_bit_identically(tmp_path, monkeypatch, *files, **given)


def test_a_run_is_not_resumed_on_another_split(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = events(archive, training__epochs=1)
    assert train(tmp_path / "run", **given) == 0
    (tmp_path / "run" / "result.json").unlink()
    assert train(tmp_path / "run", "--resume", **given) == 0
    (tmp_path / "run" / "result.json").unlink()
    listed = (tmp_path / "run" / "split.txt").read_text()
    (tmp_path / "run" / "split.txt").write_text(listed.replace("test 9", "train 9"))
    capsys.readouterr()
    assert train(tmp_path / "run", "--resume", **given) == 1
    assert "split.txt" in capsys.readouterr().err


def test_frames_reach_the_network_in_time_order_as_counts(archive: Path) -> None:
    said = {"kind": "events_npz", "root": str(archive), "cache": "off", "batch_size": 7, "augment": []}
    task, data = build(recipe_of({"data": said, "network": {"time_steps": 4, "width": 4}}))
    frames, labels = next(iter(data.loaders(0).test))
    prepared, target = task.prepare((frames, labels))
    assert torch.equal(target, labels)
    assert prepared.dtype == torch.float32
    assert torch.equal(prepared, frames.transpose(0, 1).float())
    assert task.model(prepared).main.shape == (7, 10)
