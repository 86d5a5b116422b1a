"""Silent damage is noticed before anything is touched, and no line, folder or disk takes a run with it."""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from shortcut_snn import components
from shortcut_snn.cli import _output
from shortcut_snn.data import as_data
from shortcut_snn.files import WriteError, write_text
from shortcut_snn.training import Interrupted, RunFolder, Training, callbacks, interruption, make_trainer
from shortcut_snn.training.checksums import NAME, check, digest, seal, write_sealed
from shortcut_snn.training.interruption import SIGNALS, Interruption

from .tiny import run, sides, task

pytestmark = pytest.mark.usefixtures("bare")


class After(pl.Callback):
    """Does something when the first epoch has been saved, that is as the next begins."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act, self.epochs = act, 0

    def on_train_epoch_start(self, *_: Any) -> None:
        self.epochs += 1
        if self.epochs == 2:
            self.act()


def fail() -> None:
    raise RuntimeError("the power failed")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "half"
    with pytest.raises(RuntimeError, match="the power failed"):
        run(folder, task(), callbacks=[After(fail)])
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run(folder, task())
    return folder


@pytest.fixture
def copy(half: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(half, tmp_path / "run"))


def refused(folder: Path, match: str, **given: Any) -> None:
    """A resumed run says why it does not go on, and has touched nothing."""
    before = files(folder)
    with pytest.raises(ValueError, match=match) as error:
        run(folder, task(), resume=True, **given)
    assert "\n" not in str(error.value)
    assert files(folder) == before


def flip(path: Path, places: list[int]) -> None:
    content = bytearray(path.read_bytes())
    for place in places:
        content[place] ^= 1
    path.write_bytes(content)


def test_three_flipped_bits_of_a_checkpoint_are_noticed(copy: Path) -> None:
    """Torch reads it as if nothing had happened."""
    path = copy / "checkpoint.ckpt"
    weight = torch.load(path, weights_only=True)["state_dict"]["model.network.conv1.weight"].numpy().tobytes()
    start = path.read_bytes().index(weight)
    flip(path, [start, start + 5, start + 9])
    torch.load(path, weights_only=True)
    refused(copy, r"checkpoint\.ckpt is damaged or was changed")


@pytest.mark.parametrize("name", ["recipe.yaml", "environment.json", "best.safetensors", NAME])
def test_so_are_changes_of_what_else_is_read(copy: Path, name: str) -> None:
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:-30] + b"x" * 30 if name == "best.safetensors" else content.replace(b"0", b"1"))
    refused(copy, name.replace(NAME, "is damaged"))
    (copy / name).unlink()
    if name == "best.safetensors":
        refused(copy, r"best\.safetensors, the network of the run's best epoch so far, is missing")
    elif name == "environment.json":
        refused(copy, r"environment\.json is missing")


def test_a_hash_without_its_file_is_no_damage(copy: Path, whole: Path) -> None:
    """A kill between the two leaves the file that was there."""
    path = copy / "checkpoint.ckpt"
    for text in ("never renamed", "nor this"):
        write_text(copy / "other", text)
        seal(path, copy / "other")
    (copy / "other").unlink()
    run(copy, task(), resume=True)
    assert (copy / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    assert json.loads((copy / NAME).read_text())["checkpoint.ckpt"][0] == digest(path)


def test_hashes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("of an earlier version")
    check(path)
    write_sealed(path, "whole")
    check(path)
    path.write_text("changed")
    with pytest.raises(ValueError, match="file is damaged or was changed"):
        check(path)


def without(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content.pop(key)


EDITS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no rng": without("rng"),
    "no loops": without("loops"),
    "empty loops": lambda content: content.update(loops={}),
    "no optimizer": without("optimizer_states"),
    "empty optimizer": lambda content: content.update(optimizer_states=[{}]),
    "odd optimizer": lambda content: content["optimizer_states"][0]["state"].update({1: ""}),
    "odd moments": lambda content: content["optimizer_states"][0]["state"][1].update(exp_avg_sq="text"),
    "no weights": lambda content: content.update(state_dict={}),
    "other shapes": lambda content: content["state_dict"].update({"model.network.conv1.weight": torch.zeros(1)}),
    "no history": lambda content: content["callbacks"]["History"].pop("rows"),
    "odd history": lambda content: content["callbacks"]["History"].update(rows=3),
    "odd rows": lambda content: content["callbacks"]["History"].update(rows=[3]),
    "odd health": lambda content: content["callbacks"]["Health"].pop("rows"),
    "backwards": lambda content: content["loops"]["fit_loop"]["epoch_progress"]["current"].update(processed=-1),
    "odd averages": lambda content: content.update(averages=3),
    "odd numbers": lambda content: content.update(rng_python=[3, [1], None]),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_checkpoint_of_an_earlier_version_is_a_sentence(copy: Path, edit: str) -> None:
    path = copy / "checkpoint.ckpt"
    content = torch.load(path, weights_only=True)
    EDITS[edit](content)
    torch.save(content, path)
    (copy / NAME).unlink()
    with pytest.raises(ValueError, match=r"checkpoint\.ckpt") as error:
        run(copy, task(), resume=True)
    assert "\n" not in str(error.value)
    assert "weights_only" not in str(error.value)


def test_a_later_format_is_named(copy: Path) -> None:
    about = json.loads((copy / "environment.json").read_text())
    write_sealed(copy / "environment.json", json.dumps(about | {"format": 99, "shortcut_snn": "7.0"}))
    refused(copy, r"is of format 99, written by shortcut-snn 7\.0")


def test_other_data_are_noticed(copy: Path) -> None:
    """As many samples of the same shape, other pixels."""
    train, test = (TensorDataset(torch.rand(count, 1, 4, 4), torch.arange(count) % 2) for count in (40, 12))
    refused(copy, "the data are no longer those of the run", data=as_data((train, test, test), batch_size=8))
    refused(copy, "the data are no longer those of the run", data=sides(train=39))


def test_a_runs_line_comes_after_what_it_tells_of(tmp_path: Path) -> None:
    there: list[bool] = []

    def tell(line: str) -> None:
        if line.startswith("epoch "):
            there.append((tmp_path / "run" / "checkpoint.ckpt").is_file())

    run(tmp_path / "run", task(), tell=tell)
    assert len(there) == 2
    assert all(there)


def test_a_broken_output_does_not_end_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As behind `| head`, or on a full disk."""
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert run(tmp_path / "run", task(), tell=_output.tell)["epochs"] == 2
    assert capsys.readouterr().err.count("the output takes no more (No space left on device)") == 1


def test_outputs_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    _output.prepare()
    _output.tell("nobody reads it")
    sys.stdout.close(), sys.stderr.close()


def test_an_output_of_few_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "out").open("w", encoding="cp1252") as out:
        monkeypatch.setattr(sys, "stdout", out)
        _output.prepare()
        _output.tell("a → b, é")
    assert (tmp_path / "out").read_text(encoding="cp1252") == "a \\u2192 b, é\n"


def test_the_folder_is_removed_meanwhile(tmp_path: Path, whole: Path) -> None:
    folder, said = tmp_path / "run", list[str]()
    run(folder, task(), callbacks=[After(lambda: shutil.rmtree(folder))], tell=said.append)
    assert (folder / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    assert any(f"the run goes on in {folder}" in line for line in said)
    assert RunFolder(folder).is_finished
    check(folder / "recipe.yaml")


def test_the_current_folder_changes_meanwhile(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    run(Path("run"), task(), callbacks=[After(lambda: os.chdir("elsewhere"))])
    assert not any((tmp_path / "elsewhere").iterdir())
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()


def test_what_cannot_be_written_is_saved_elsewhere(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir()
    write = RunFolder.write_rows

    def full(self: RunFolder, name: str, rows: Any) -> None:
        if self.path == folder and len(rows) == 2:
            raise WriteError(self.table(name), OSError(28, "No space left on device"))
        write(self, name, rows)

    monkeypatch.setattr(RunFolder, "write_rows", full)
    monkeypatch.setattr(callbacks.tempfile, "mkdtemp", lambda prefix: str(elsewhere))
    with pytest.raises(ValueError, match=rf"No space left on device; nothing is lost.*--out {elsewhere}"):
        run(folder, task())
    monkeypatch.undo()
    run(elsewhere, task(), resume=True)
    assert (elsewhere / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()


def test_a_forked_process_does_not_hold_the_folder(tmp_path: Path) -> None:
    """As a loader's, which outlives a killed run by seconds."""
    if not hasattr(os, "fork"):
        pytest.skip("no processes are forked here")
    (ears, mouth), (begun, begins) = os.pipe(), os.pipe()
    with RunFolder(tmp_path / "run").locked():
        child = os.fork()
        if child == 0:
            os.write(begins, b".")
            os.read(ears, 1)
            os._exit(0)
        os.read(begun, 1)
        with pytest.raises(ValueError, match="another process is training"), RunFolder(tmp_path / "run").locked():
            pass
    with RunFolder(tmp_path / "run").locked():
        pass
    os.write(mouth, b".")
    os.waitpid(child, 0)
    for handle in (ears, mouth, begun, begins):
        os.close(handle)


class Stuck:
    """A batch that never comes, once, after which the main thread does nothing but wait."""

    def __init__(self, at: int, sent: int) -> None:
        self.at, self.sent, self.steps = at, sent, 0

    def __call__(self, batch: list[tuple[Tensor, int]]) -> Any:
        self.steps += 1
        if self.steps == self.at:
            os.kill(os.getpid(), self.sent)
            threading.Event().wait(60)
        return torch.utils.data.default_collate(batch)


def test_a_batch_that_never_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal is not noted for ever: what the steps so far have done is saved."""
    monkeypatch.setattr(interruption, "PATIENCE", 0.3)

    def data(collate: Any) -> Any:
        torch.manual_seed(0)
        parts = [TensorDataset(torch.rand(count, 1, 4, 4), torch.arange(count) % 2) for count in (40, 12)]
        return DataLoader(parts[0], 8, collate_fn=collate), DataLoader(parts[1], 8)

    plain = torch.utils.data.default_collate
    run(tmp_path / "whole", task(), data(plain))
    with pytest.raises(Interrupted):
        run(tmp_path / "run", task(), data(Stuck(9, signal.SIGTERM)))
    kept = torch.load(tmp_path / "run" / "checkpoint.ckpt", weights_only=True)
    assert kept["global_step"] == 8, "five steps of the first epoch, three of the second"
    run(tmp_path / "run", task(), data(plain), resume=True)
    for name in ("metrics.csv", "gradients.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_call_that_does_not_return_is_left_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that waits for a machine that is not there: no handler runs meanwhile."""
    if not hasattr(os, "fork"):
        pytest.skip("no processes are forked here")
    monkeypatch.setattr(interruption, "PATIENCE", 0.3)
    child = os.fork()
    if child == 0:
        try:
            with Interruption().listening():
                if os.fork() == 0:
                    time.sleep(0.5)
                    os.kill(os.getppid(), signal.SIGTERM)
                    os._exit(0)
                # To lock a mutex twice waits for ever, whatever signals come.
                library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(128)
                library.pthread_mutex_lock(mutex), library.pthread_mutex_lock(mutex)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGTERM


def test_a_hangup_saves_but_for_nohup() -> None:
    assert signal.SIGHUP in SIGNALS
    before = signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with Interruption().listening():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with Interruption().listening():
            assert callable(signal.getsignal(signal.SIGHUP))
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"precision": "fp16", "accelerator": "cpu"}, "training.precision: fp16 needs a GPU"),
        ({"strategy": "ddp_spawn"}, "training.strategy: ddp_spawn"),
        ({"strategy": "ddp_notebook"}, "training.strategy: ddp_notebook"),
        ({"strategy": "single_xla"}, "training.strategy: single_xla"),
        ({"strategy": "deepspeed"}, "training.accelerator, devices, nodes or strategy: "),
        ({"strategy": "magic"}, "training.accelerator, devices, nodes or strategy: "),
    ],
)
def test_what_would_be_something_else_is_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make_trainer(Training(**{"accelerator": "cpu"} | options))


def test_torchrun_and_a_recipe_that_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process would take itself for the only one."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"torchrun has started 2 processes, and .* is 1"):
        make_trainer(Training(accelerator="cpu"))


def test_errors_of_training_that_are_known_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"too large for the weights. type: try a lower optimizer\.lr"):
        run(tmp_path / "run", task(optimizer=components.optimizer.make("adamw", lr=1e38)))
    with pytest.raises(RuntimeError, match="of somebody else"):
        run(tmp_path / "other", task(), callbacks=[After(lambda: raises(RuntimeError("of somebody else")))])


def raises(error: Exception) -> None:
    raise error


def test_a_process_that_fails_is_told_of_before_the_others_end(tmp_path: Path) -> None:
    """Lightning's own watch kills the first process without a word."""
    code = """
import subprocess, sys, time
from lightning.pytorch.strategies.launchers import subprocess_script
trainer.GRACE = 0.1
with trainer.watched():
    texts = ("raise SystemExit(3)", "import time; time.sleep(60)")
    processes = [subprocess.Popen([sys.executable, "-c", text]) for text in texts]
    subprocess_script._launch_process_observer(processes)
    time.sleep(60)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("shortcut-snn: error: a process of this run has ended with status ")
