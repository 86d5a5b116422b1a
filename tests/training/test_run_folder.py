"""The run folder: who may write to it, what it accepts on resume, and what a failed write leaves."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import TensorDataset

from shortcut_snn import components
from shortcut_snn._utils.files import WriteError, remove_strays, replacing, write_text
from shortcut_snn.cli import main
from shortcut_snn.data import as_data
from shortcut_snn.training import RunFolder
from shortcut_snn.training.provenance import task_entries
from shortcut_snn.training.run_state import Run
from shortcut_snn.training.trainer import read_checkpoint

from .small import error_line, options, train
from .tiny import run, sides, task

pytestmark = pytest.mark.usefixtures("bare")


class AfterFirstEpoch(pl.Callback):
    """Calls a function when the first epoch has been saved."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act = act

    def on_train_epoch_start(self, trainer: pl.Trainer, module: Any) -> None:
        if trainer.current_epoch == 1:
            self.act()


def fail() -> None:
    raise RuntimeError("the power failed")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that failed after its first epoch."""
    folder = tmp_path_factory.mktemp("runs") / "unfinished"
    with pytest.raises(RuntimeError, match="the power failed"):
        run(folder, task(), callbacks=[AfterFirstEpoch(fail)])
    return folder


@pytest.fixture
def copy(unfinished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(unfinished, tmp_path / "run"))


def assert_refused(folder: Path, match: str, data: Any = None) -> None:
    """A resumed run raises one line and changes nothing."""
    before = contents(folder)
    with pytest.raises(ValueError, match=match) as error:
        run(folder, task(), data, resume=True)
    assert "\n" not in str(error.value)
    assert contents(folder) == before


def test_a_flipped_bit_of_a_checkpoint_is_found(copy: Path) -> None:
    """torch reads such a file without an error; the CRC of the zip archive does not match."""
    path = copy / "checkpoint.ckpt"
    weight = torch.load(path, weights_only=True)["state_dict"]["model.network.conv1.weight"].numpy().tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(weight)] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)
    assert_refused(copy, r"checkpoint\.ckpt")


@pytest.mark.parametrize("damage", ["cut", "other entries"])
def test_other_damage_of_a_checkpoint_is_found(copy: Path, damage: str) -> None:
    path = copy / "checkpoint.ckpt"
    if damage == "other entries":
        torch.save({"weights": torch.ones(1)}, path)
    else:
        path.write_bytes(path.read_bytes()[:-100])
    assert_refused(copy, r"checkpoint\.ckpt")


def test_a_lost_best_network_is_named_with_what_to_do(copy: Path, tmp_path: Path) -> None:
    (copy / "best.safetensors").unlink()
    assert_refused(copy, r"best\.safetensors .* restore it, or delete checkpoint\.ckpt")
    (copy / "checkpoint.ckpt").unlink()
    assert run(copy, task(), resume=True)["best_epoch"]
    other = tmp_path / "other"
    best = other / "best.safetensors"

    def damage() -> None:
        best.write_bytes(best.read_bytes()[:50])

    # The later epochs are worse, so the network of the first is read at the end.
    class Worse(AfterFirstEpoch):
        def on_validation_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
            module.log("validation_accuracy", 1.0 - trainer.current_epoch)

    with pytest.raises(ValueError, match=r"best\.safetensors was removed or damaged .* delete checkpoint\.ckpt"):
        run(other, task(), callbacks=[Worse(damage)])


@pytest.mark.parametrize("version", [2, 99])
def test_a_run_resumes_only_in_its_own_format(copy: Path, version: int) -> None:
    environment = json.loads((copy / "environment.json").read_text())
    (copy / "environment.json").write_text(json.dumps(environment | {"format": version}))
    assert_refused(copy, rf"format {version}")
    if version == 99:
        with pytest.raises(ValueError, match="format 99"):
            RunFolder(copy).read_entries()


def test_a_lost_environment_is_named(copy: Path) -> None:
    (copy / "environment.json").unlink()
    with pytest.raises(ValueError, match=r"environment\.json was removed: restore it"):
        run(copy, task(), resume=True)


def test_other_data_are_refused(copy: Path) -> None:
    """The same number of samples of the same shape with other pixels, and fewer samples."""
    train, test = (TensorDataset(torch.rand(count, 1, 4, 4), torch.arange(count) % 2) for count in (40, 12))
    assert_refused(copy, "data differ", as_data((train, test, test), batch_size=8))
    assert_refused(copy, "data differ", sides(train=39))


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"the folder .*nowhere does not exist"):
        RunFolder(tmp_path / "nowhere").read_entries()


def test_a_network_that_is_not_there_yet_is_named(copy: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"network\.safetensors"):
        RunFolder(copy).read_network("last")
    assert RunFolder(copy).read_network("best")[1]["data"]["classes"] == ["left", "right"]
    with pytest.raises(FileNotFoundError, match="holds no run"):
        RunFolder(copy.parent).read_network("last")


def test_a_folder_is_locked_for_other_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shortcut_snn.training.folder._LOCK_SECONDS", 0)
    with (
        RunFolder(tmp_path / "run").locked(),
        pytest.raises(ValueError, match="another process is training"),
        RunFolder(tmp_path / "run").locked(),
    ):
        pass
    with RunFolder(tmp_path / "run").locked():
        pass
    assert not (tmp_path / "run").exists(), "nothing was written"


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_another_process_trained_meanwhile_is_kept(copy: Path, resume: bool) -> None:
    folder = copy if resume else copy.parent / "new"
    opened = Run(folder, task_entries(task()), resume=resume, log=lambda line: None)
    run(folder, task(), resume=resume)
    before = contents(folder)
    with pytest.raises(ValueError, match=r"another process has trained in .* meanwhile"):
        run(opened, task())
    assert contents(folder) == before


@pytest.mark.parametrize(("name", "more"), [("metrics.csv", ()), ("notes.txt", ("--resume",))])
def test_folders_of_other_files_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, more: tuple[str, ...]
) -> None:
    (tmp_path / name).write_text("my own work")
    assert train(tmp_path, *more) == 1
    assert name in error_line(capsys)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "my own work"}


def test_a_run_killed_before_its_recipe_was_written_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(path: Path, text: str) -> None:
        if path.name == "recipe.yaml":
            raise RuntimeError("killed")
        write_text(path, text)

    with monkeypatch.context() as patch:
        patch.setattr("shortcut_snn.training.folder.write_text", write)
        with pytest.raises(RuntimeError, match="killed"):
            run(tmp_path, task(epochs=1))
    assert {path.name for path in tmp_path.iterdir()} == {"environment.json"}
    for name in (".shortcut-snn-recipe-0123abcd.yaml", "mlflow.db"):
        (tmp_path / name).touch()
    run(tmp_path, task(epochs=1), resume=True)
    assert RunFolder(tmp_path).is_finished


def test_surrogates_of_a_run_that_failed_do_not_outlive_it(tmp_path: Path) -> None:
    (tmp_path / "surrogates.json").write_text('{"spike1": {"factor": 2.0}}')
    run(tmp_path, task(epochs=1))
    assert not (tmp_path / "surrogates.json").exists()


def test_surrogates_that_were_removed_are_not_replaced_by_the_networks(copy: Path) -> None:
    folder = RunFolder(copy)
    folder.begin(folder.read_entries(), "", {"spike1": {"factor": 2.0}}, {})
    folder.surrogates.unlink()
    with pytest.raises(ValueError, match=r"surrogates\.json was removed, .*restore it"):
        run(copy, task(), resume=True)


def test_a_removed_folder_ends_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(ValueError, match=r"folder .*run was removed"):
        run(folder, task(), callbacks=[AfterFirstEpoch(lambda: shutil.rmtree(folder))])
    with pytest.raises(ValueError, match=r"recipe\.yaml was removed or moved; .* put it back and resume"):
        run(folder, task(), callbacks=[AfterFirstEpoch((folder / "recipe.yaml").unlink)])


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"

    def fill() -> None:
        def save(content: object, file: Any) -> None:
            file.write(b"half of a checkpoint")
            raise RuntimeError("unexpected pos") from OSError(28, "No space left on device")

        monkeypatch.setattr(torch, "save", save)

    with pytest.raises(WriteError, match="No space left on device"):
        run(folder, task(), callbacks=[AfterFirstEpoch(fill)])
    assert read_checkpoint(folder / "checkpoint.ckpt")["epoch"] == 0
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_schedule_of_numpy_numbers_resumes(tmp_path: Path) -> None:
    kind = components.lr_schedule
    kind("numpy_cosine")(lambda optimizer, total: LambdaLR(optimizer, lambda step: np.cos(step / total)))
    try:
        chosen = kind.make("numpy_cosine")
        with pytest.raises(RuntimeError, match="the power failed"):
            run(tmp_path, task(lr_schedule=chosen), callbacks=[AfterFirstEpoch(fail)])
        assert run(tmp_path, task(lr_schedule=chosen), resume=True)["epochs"] == 2
    finally:
        del kind.components["numpy_cosine"]


def test_a_checkpoint_that_cannot_be_read_is_refused_when_it_is_written(tmp_path: Path) -> None:
    mine = task()
    mine.save_hyperparameters({"network": mine.model.network})
    with pytest.raises(ValueError, match=r"no run could resume from a checkpoint with tests\.training\.tiny\.Net"):
        run(tmp_path, mine)
    assert not (tmp_path / "checkpoint.ckpt").exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--out", "/sys/run", *options(training__epochs=1)]) == 1
    assert "could not be written" in error_line(capsys)


def test_only_temporary_files_of_killed_writers_are_removed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "checkpoint.ckpt") as temporary:
        raise KeyboardInterrupt
    (tmp_path / temporary.name).write_text("half of a checkpoint")
    kept = {"checkpoint.ckpt", ".hidden", "notes-abcdefgh.txt", ".notes-20260101", ".lab-diary_01.md"}
    for name in kept:
        (tmp_path / name).write_text("kept")
    remove_strays(tmp_path, older_than=0)
    assert {path.name for path in tmp_path.iterdir()} == kept
