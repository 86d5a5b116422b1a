"""Folders of runs that other versions made: read as ever, or who made them is named."""

import csv
import json
import shutil
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
import yaml

from shortcut_snn.cli import main
from shortcut_snn.training import RunFolder
from shortcut_snn.training.callbacks import SaveRun
from shortcut_snn.training.folder import FORMAT

from .small import options, train

SMALL = {
    "training__epochs": 1, "data__train_limit": 20, "data__test_limit": 10, "data__batch_size": 10,
    "network__width": 2, "network__time_steps": 1,
}  # fmt: skip
# As version 0.1.0 wrote them.
OLD_RECIPE = {
    "data": {"name": "digits", "batch_size": 64},
    "network": {"name": "resnet18", "width": 16, "time_steps": 4},
    "neuron": {"surrogate": {"name": "triangle"}},
    "method": {"name": "evolutionary"},
    "optimizer": {"lr": 0.01},
    "train": {"epochs": 40},
}
OLD_RESULT = {"test_accuracy_last": 0.9, "test_accuracy_best": 0.91, "best_epoch": 7, "parameters": 1}


@pytest.fixture(scope="module")
def now(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "now"
    assert train(folder, **SMALL) == 0
    return folder


@pytest.fixture
def run(now: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(now, tmp_path / "run"))


def test_a_run_says_its_format(now: Path) -> None:
    assert json.loads((now / "environment.json").read_text())["format"] == FORMAT


def test_the_first_format_goes_on(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It had no number, no hashes, and no fingerprint of its data."""
    about = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps({k: v for k, v in about.items() if k not in ("format", "data")}))
    (run / "checksums.json").unlink()
    for command in ("evaluate", "report", "energy"):
        assert main([command, str(run)]) == 0
    assert train(run, "--resume", **SMALL) == 0
    assert "is finished already" in capsys.readouterr().out
    (run / "result.json").unlink()
    assert train(run, "--resume", **SMALL) == 0
    assert json.loads((run / "environment.json").read_text())["format"] == FORMAT
    assert (run / "checksums.json").is_file()


def test_epochs_that_were_counted_from_0_go_on_from_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As checkpoints of the first versions have them, and tables of runs that were gone on with since."""
    save, settings = SaveRun.on_train_epoch_end, SMALL | {"training__epochs": 3}

    def kill(self: SaveRun, trainer: pl.Trainer, module: object) -> None:
        save(self, trainer, module)
        if trainer.current_epoch == 1:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(SaveRun, "on_train_epoch_end", kill)
        with pytest.raises(RuntimeError, match="killed"):
            train(tmp_path, "--resume", **settings)
    path = tmp_path / "checkpoint.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    for rows in (*(checkpoint["callbacks"]["History"][name] for name in ("rows", "gradients", "seconds")),
                 checkpoint["callbacks"]["Health"]["rows"]):  # fmt: skip
        for row in rows:
            row["epoch"] -= 1
    torch.save(checkpoint, path)
    (tmp_path / "checksums.json").unlink()
    assert train(tmp_path, "--resume", **settings) == 0
    for name in ("metrics", "gradients", "timing", "layers"):
        epochs = [row["epoch"] for row in csv.DictReader((tmp_path / f"{name}.csv").open())]
        assert list(dict.fromkeys(epochs)) == ["1", "2", "3"], name


@pytest.mark.parametrize("cut", ["a bit", "the end"])
def test_a_damaged_checkpoint_without_a_hash_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str], cut: str
) -> None:
    (run / "checksums.json").unlink()
    (run / "result.json").unlink()
    path = run / "checkpoint.ckpt"
    content = bytearray(path.read_bytes())
    weights = next(iter(torch.load(path, weights_only=True)["state_dict"].values())).numpy().tobytes()
    content[content.index(weights) + 1] ^= 1
    path.write_bytes(content if cut == "a bit" else content[:-100])
    assert train(run, "--resume", **SMALL) == 1
    assert "checkpoint.ckpt" in capsys.readouterr().err
    assert not (run / "checksums.json").exists()


@pytest.mark.parametrize("command", ["evaluate", "report", "resume", "export"])
def test_an_older_one_names_its_maker(run: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    (run / "recipe.yaml").write_text(yaml.safe_dump(OLD_RECIPE))
    (run / "result.json").write_text(json.dumps(OLD_RESULT))
    (run / "environment.json").write_text(json.dumps({"shortcut_snn": "0.1.0"}))
    (run / "checksums.json").unlink()
    arguments = {
        "resume": ["train", "--resume", "--out", str(run), *options(**SMALL)],
        "export": ["export", str(run), "--to", "safetensors"],
    }
    capsys.readouterr()
    assert main(arguments.get(command, [command, str(run)])) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "made by shortcut-snn 0.1.0" in said
    assert not (run / "export").exists()


@pytest.mark.parametrize("command", ["evaluate", "report", "resume"])
def test_a_later_one_names_its_maker(run: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    about = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps(about | {"format": FORMAT + 1, "shortcut_snn": "9.9"}))
    again = ["train", "--resume", "--out", str(run), *options(**SMALL)]
    assert main(again if command == "resume" else [command, str(run)]) == 1
    assert f"is of format {FORMAT + 1}, written by shortcut-snn 9.9" in capsys.readouterr().err


def test_a_comparison_does_not_take_a_result_that_it_cannot_read(run: Path) -> None:
    (run / "result.json").write_text(json.dumps(OLD_RESULT))
    with pytest.raises(ValueError, match=r"result\.json is damaged, or of an earlier version"):
        RunFolder(run).read_result()
