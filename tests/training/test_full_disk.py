"""A disk that is full and a folder that takes no files: one clear line, and what was whole stays so."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from shortcut_snn.cli import main
from shortcut_snn.files import WriteError, remove_strays, replacing, write_text
from shortcut_snn.training import Classification
from shortcut_snn.training.callbacks import SaveRun
from shortcut_snn.training.checkpoint import read_checkpoint

from .same import assert_same_run
from .small import options, train

SETTINGS = {
    "training__epochs": 2,
    "training__threads": 1,
    "data__train_limit": 120,
    "data__test_limit": 40,
    "data__batch_size": 20,
}


def command(folder: Path, limit: int) -> subprocess.CompletedProcess[str]:
    """Train in a process whose files may have no more than ``limit`` bytes: a write beyond fails as on a full disk."""

    def restrict() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-m", "shortcut_snn", "train", "--resume", "--out", str(folder), *options(**SETTINGS)],
        preexec_fn=restrict, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert train(whole, **SETTINGS) == 0
    save, stop = SaveRun.on_train_epoch_end, RuntimeError("after the first epoch")

    def once(self: SaveRun, *given: object) -> None:
        save(self, *given)
        raise stop

    with monkeypatch.context() as patch:
        patch.setattr(SaveRun, "on_train_epoch_end", once)
        with pytest.raises(RuntimeError, match="after the first epoch"):
            train(folder, **SETTINGS)
    before = (folder / "checkpoint.ckpt").read_bytes()
    # Too little for a checkpoint, enough for the other files.
    done = command(folder, len(before) // 2)
    assert done.returncode == 1
    assert done.stderr.startswith("shortcut-snn: error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert "could not be written: File too large" in done.stderr
    assert (folder / "checkpoint.ckpt").read_bytes() == before
    read_checkpoint(folder / "checkpoint.ckpt")
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]
    assert train(folder, "--resume", **SETTINGS) == 0
    assert_same_run(folder, whole)


def test_a_folder_that_takes_no_files(tmp_path, capsys):
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o555)
    # The superuser may write there, but no one makes files in the kernel's own tree.
    place = Path("/sys") if os.access(folder, os.W_OK) else folder
    for arguments in (["train"], ["gradients"]):
        assert main([*arguments, "--out", str(place / "run"), *options(**SETTINGS)]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"shortcut-snn: error: {place}/run")
        assert "could not be written: " in said
        assert said.count("\n") == 1
    assert not list(folder.iterdir())


@pytest.mark.parametrize("path", [Path("/dev/null/x"), Path(__file__) / "x"])
def test_a_place_that_is_no_folder(path):
    with pytest.raises(WriteError, match=f"{path.parent} could not be written: (Not a directory|File exists)"):
        write_text(path, "text")


def test_a_failed_write_names_its_file(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(WriteError, match=r"file\.txt could not be written: No space left on device"):  # noqa: SIM117
        with replacing(path) as temporary, open("/dev/full", "w") as full:
            full.write(temporary.name)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


def test_what_killed_writers_left_is_removed(tmp_path):
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "checkpoint.ckpt") as temporary:
        raise KeyboardInterrupt
    stray = tmp_path / temporary.name
    stray.write_text("half of a checkp")
    for name in ("checkpoint.ckpt", ".hidden", "notes-abcdefgh.txt"):
        (tmp_path / name).write_text("kept")
    remove_strays(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.ckpt", ".hidden", "notes-abcdefgh.txt"}


def test_a_persons_own_hidden_files_stay(tmp_path):
    for name in (names := {".notes-20260101", ".env-template", ".todo-settings", ".lab-diary_01.md"}):
        (tmp_path / name).write_text("kept")
    remove_strays(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.parametrize("kept", [True, False])
def test_the_best_epoch_is_kept_where_the_disk_is_full(kept, tmp_path, monkeypatch):
    """Of three epochs, of which the first is chosen, the second meets a full disk."""

    class Falling(Classification):
        def on_validation_epoch_end(self) -> None:
            self.log("validation_accuracy", 1 / (1 + self.current_epoch))

    settings = SETTINGS | {"training__epochs": 3}
    folder, save, places = tmp_path / "run", SaveRun._save, []

    def full(self: SaveRun, trainer: object) -> None:
        if trainer.current_epoch == 1 and self.folder.path == folder:
            if not kept:
                (folder / "best.safetensors").unlink()
            raise WriteError(folder / "checkpoint.ckpt", OSError(28, "No space left on device"))
        places.append(self.folder.path)
        save(self, trainer)

    with monkeypatch.context() as patch:
        patch.setattr(SaveRun, "_save", full)
        patch.setattr(Classification, "on_validation_epoch_end", Falling.on_validation_epoch_end)
        assert train(folder, **settings) == 1
        (moved,) = {place for place in places if place != folder}
        first = (folder / "best.safetensors").read_bytes() if kept else None
        assert train(moved, "--resume", **settings) == 0
    assert json.loads((moved / "result.json").read_text())["best_epoch"] == (1 if kept else 2)
    assert first is None or (moved / "best.safetensors").read_bytes() == first
