"""The table of changes, the minutes and the picture of research/studies/speedrun.py, on small images."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from research.studies import speedrun
from shortcut_snn._utils.files import write_csv
from shortcut_snn.deploy.safetensors_files import read_network
from shortcut_snn.recipes import recipe_of, train
from shortcut_snn.training import Classification, Interrupted, RunFolder, read_rows

pytestmark = pytest.mark.filterwarnings("ignore:::lightning")
ROWS = [
    "base",
    "flip_alternating",
    "stem_whitening",
    "stem_colour",
    "pool_first",
    "norm_fixed_scale",
    "identity_filters",
]
ROWS += ["muon_iterations_3", "lookahead", "hard_examples", "teacher"]


def test_every_row_trains_and_is_compared_with_the_base(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(speedrun.BASE, "network", {"width": 4})
    small = {"progressive_resizing": {"fraction": 0.8, "size": 6}, "precision": "fp32"}
    monkeypatch.setitem(speedrun.BASE, "training", speedrun.BASE["training"] | small)
    np.save(tmp_path / "teacher.npy", np.full((200, 4), 0.25, np.float32))
    words = ["changes", str(data), str(tmp_path), "--seeds", "0", "--threads", "1", "--rows", *ROWS]
    speedrun.main([*words, "--teacher", str(tmp_path / "teacher.npy")])
    rows = read_rows(tmp_path / "changes.csv")
    assert {row["row"] for row in rows} == set(ROWS)
    header, _, base, *others = (tmp_path / "changes.md").read_text().strip().splitlines()
    assert "difference" in header
    assert base.split("|")[3].strip() == "0.00"
    assert len(others) == len(ROWS) - 1
    # A run of a few milliseconds still has a time, by which others can be divided.
    timing = RunFolder(tmp_path / "base" / "seed0").table("timing")
    write_csv(timing, [row | {"seconds": "0.006"} for row in read_rows(timing)])
    speedrun.main([*words, "--teacher", str(tmp_path / "teacher.npy")])
    assert (tmp_path / "changes.md").read_text().strip().splitlines()[2].split("|")[4].strip() == "1.00"


@pytest.mark.parametrize("row", ["lookahead", "hard_examples"])
def test_an_interrupted_row_ends_like_a_whole_one(
    row: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = {"data": {"kind": "npz", "root": str(data), "batch_size": 50}, "network": {"width": 4}}
    entries |= {"task": speedrun.ROWS[row]["task"], "training": {"epochs": 2, "precision": "fp32", "threads": 1}}
    recipe = recipe_of("cifar10-small", entries)
    train(recipe, tmp_path / "whole")
    monkeypatch.setattr(Classification, "on_train_epoch_end", lambda task: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "interrupted")
    monkeypatch.undo()
    train(recipe, tmp_path / "interrupted", resume=True)
    whole, resumed = (read_network(tmp_path / name / "network.safetensors")[0] for name in ("whole", "interrupted"))
    assert all(whole[key].equal(resumed[key]) for key in whole)


def test_the_row_teacher_needs_its_file(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        speedrun.main(["changes", str(data), str(tmp_path), "--rows", "teacher"])
    assert "--teacher" in capsys.readouterr().err


def test_whitened_patches_are_uncorrelated(data: Path) -> None:
    filters = speedrun.whitening_filters(str(data)).flatten(1).double()
    with np.load(data) as arrays:
        images = arrays["x_train"] / 255
    images = (images - images.mean((0, 1, 2))) / images.std((0, 1, 2))
    windows = np.lib.stride_tricks.sliding_window_view(images, (2, 2), (1, 2)).reshape(-1, 12)
    outputs = windows @ filters.numpy().T
    assert np.allclose(outputs.T @ outputs / len(outputs), np.eye(12), atol=0.05)


def test_the_picture_has_both_libraries(tmp_path: Path) -> None:
    records = tmp_path / "records.csv"
    records.write_text(
        "track,network,epochs,accuracy,minutes_of_two_idle_cores,with_spikingjelly\n"
        "integers,vgg6,8,0.874,7.8,16.0\nbinary,vgg6,30,0.851,29.2,\nbinary,vgg6,12,0.85,,\n"
    )
    speedrun.main(["picture", str(records), str(tmp_path / "picture.svg")])
    drawn = (tmp_path / "picture.svg").read_text()
    assert "vgg6, 8 epochs" in drawn
    assert "vgg6, 30 epochs" in drawn
    assert "SpikingJelly" in drawn
    assert "12 epochs" not in drawn


def test_minutes_of_both_libraries_are_printed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("spikingjelly")
    speedrun.main(["minutes", str(data), "network.width=4", "data.batch_size=20"])
    ours, theirs = capsys.readouterr().out.strip().splitlines()
    assert ours.startswith("ilif: ")
    assert theirs.startswith("spikingjelly_ilif: ")


def test_an_unknown_entry_and_a_missing_file_are_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, name in (
        (("minutes", str(data), "network.wide=4"), "wide"),
        (("picture", "none.csv", "a.svg"), "none.csv"),
    ):
        with pytest.raises(SystemExit):
            speedrun.main(words)
        assert name in capsys.readouterr().err
