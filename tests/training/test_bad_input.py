"""Bad input to every command: one line of error, an exit status, no traceback, no file."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shortcut_snn.cli import _main, main
from shortcut_snn.data import ImageFolder
from shortcut_snn.data.images import image_set
from shortcut_snn.recipes import build, parse_options, recipe_of
from shortcut_snn.training.trainer import make_trainer

from .small import error_line, options

Say = pytest.CaptureFixture[str]
WHOLE = ["0", "-1", "1.5", "many", "[1]", "1000000000000000000000000"]
REAL = ["0", "-1", "nan", "inf", "fast", "1e999"]
FRACTION = ["-1", "nan", "inf", "fast", "[]", "-0.001"]
WORD = ["magic", "", "3.5", "{a: 1}"]
# Recipes are checked entry by entry, so one entry of each type is enough.
ENTRIES = {
    "network.time_steps": WHOLE,
    "training.devices": WHOLE,
    "data.batch_size": WHOLE,
    # Its range is torch's, which takes 0 and infinity.
    "optimizer.lr": ["-1", "nan", "fast", "[]"],
    "neuron.threshold": REAL,
    "task.label_smoothing": FRACTION,
    "method.branches.branch_weight.initial": FRACTION,
    "data.validation": FRACTION,
    "neuron.decay": FRACTION,
    "training.seed": [*FRACTION, "1.5", "4294967296"],
    "neuron.surrogate.kind": WORD,
    "method.branches.taps": WORD,
    "method.gradient.kind": WORD,
    "training.precision": WORD,
    "training.accelerator": WORD,
    "training.strategy": WORD,
    "data.kind": WORD,
    "data.augment": ["magic", "3.5", "{a: 1}"],
    "training.sync_batchnorm": WORD,
}
# Of these, torch, Lightning or the neuron refuses some values in its own words.
ALSO = {
    "optimizer.lr": "optimizer: Invalid learning rate",
    "neuron.threshold": "threshold must be finite",
    "training.strategy": "training.accelerator, devices, nodes or strategy",
}


def refused(capsys: Say, out: Path, *arguments: object) -> str:
    """Run the command and return the one line that it says instead of doing something."""
    capsys.readouterr()
    status = main([str(argument) for argument in arguments])
    said = error_line(capsys)
    assert status in (1, 2), (status, said)
    assert not (out.exists() and any(path.is_file() for path in out.rglob("*"))), "something was written"
    return said


@pytest.mark.parametrize("entry", ENTRIES)
def test_wrong_entries(entry: str) -> None:
    message = "|".join(re.escape(each) for each in (entry, ALSO.get(entry, entry)))
    for value in ENTRIES[entry]:
        with pytest.raises(ValueError, match=message) as error:  # noqa: PT012
            recipe = recipe_of("evolutionary", parse_options([f"{entry}={value}"]))
            build(recipe)
            make_trainer(recipe.training)
        assert "\n" not in str(error.value).strip()


COMMANDS = [
    (["train", "--out", "OUT", "--config", "HERE"], "no recipe or preset"),
    (["train", "--out", "FILE", *options()], "is a file; name a folder"),
    (["evaluate", "OUT"], "does not exist"),
    (["recipes", "digits"], "unrecognized arguments: digits"),
    (["compare", "--out", "OUT", "--seeds", "0"], "--seeds is the number of seeds"),
    (["compare", "--out", "OUT", "--jobs", "0"], "--jobs: must be at least 1"),
    (
        ["compare", "--out", "OUT", "--methods", "evolutionary method.branches.branch_weight.initial=-1"],
        "method.branches.branch_weight.initial",
    ),
    (["compare", "--out", "OUT", "--grid", "network.width"], "--grid takes KEY=A,B"),
    (["compare", "--out", "OUT", "--grid", "network=1"], "network must be"),
    (["gradients", "--out", "OUT", "--run", "HERE", *options()], "holds no run"),
]
CONTRADICTIONS = [
    ({"data__train_limit": 5}, "at least 1 image for each of the 10 classes"),
    ({"data__augment": "[resized_crop]"}, "ResizedCrop must come first"),
    ({"data__kind": "events_npz", "data__root": "nowhere", "data__augment": "[autoaugment]"}, "is for images"),
    ({"data__size": 12}, "data 'digits' has no entry 'size'"),
    ({"preset": "vanilla", "method__objective__kind": "tet", "method__branches__taps": "stages"}, "not use branches"),
    ({"network__kind": "vgg11", "network__stem": "large"}, "network 'vgg11' has no entry 'stem'"),
    ({"method__branches__taps": "[stem.convolution]"}, "did you mean stem.conv?"),
    (
        {"training__strategy": "single_device", "training__devices": 2, "training__accelerator": "cpu"},
        "change training.strategy",
    ),
    ({"training__accelerator": "tpu"}, "training.accelerator"),
]
COMMANDS += [(["train", "--out", "OUT", *options(**changes)], word) for changes, word in CONTRADICTIONS]


@pytest.mark.parametrize(("arguments", "word"), COMMANDS)
def test_wrong_command_lines(tmp_path: Path, capsys: Say, arguments: list[str], word: str) -> None:
    (tmp_path / "file").write_text("kept")
    places = {"OUT": tmp_path / "out", "FILE": tmp_path / "file", "HERE": tmp_path}
    for name, place in places.items():
        arguments = [argument.replace(name, str(place)) for argument in arguments]
    assert word in refused(capsys, tmp_path / "out", *arguments)
    assert (tmp_path / "file").read_text() == "kept"


def training_on(root: Path, name: str, out: Path, **changes: object) -> list[str]:
    given = {"data__kind": name, "data__root": root, "data__train_limit": 1000, "data__test_limit": 1000}
    return ["train", "--out", str(out), *options(**given | {"data__batch_size": 4} | changes)]


def images(folder: Path, classes: str = "ab", each: int = 6) -> None:
    for index, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            Image.fromarray(np.full((8, 8, 3), 20 * number + index, np.uint8)).save(folder / name / f"{number}.png")


def test_a_run_resumes_after_a_damaged_image_is_replaced(
    tmp_path: Path, capsys: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image of the test set is read after the last epoch, if the fingerprint does not read it before."""
    monkeypatch.setattr(image_set, "_HASHED", 1)
    root, out = tmp_path / "images", tmp_path / "out"
    images(root, each=12)
    damaged = Path(ImageFolder(str(root), image_size=8).load().test.paths[1])
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:60])
    given = training_on(root, "folder", out, data__image_size=8)
    assert main(given) == 1
    assert str(damaged) in capsys.readouterr().err
    damaged.unlink()
    assert main([*given, "--resume"]) == 1, "other images would be drawn for the test set"
    assert "split.txt" in capsys.readouterr().err
    damaged.write_bytes(whole)
    assert main([*given, "--resume"]) == 0
    assert main(["evaluate", str(out)]) == 0
    damaged.unlink()
    assert main(["evaluate", str(out)]) == 1


def test_a_lack_of_memory_is_one_line(tmp_path: Path, capsys: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.\nMore"

    def out_of_memory(*_: object) -> int:
        raise RuntimeError(said)

    monkeypatch.setattr(_main, "_run", out_of_memory)
    assert "not enough memory" in refused(capsys, tmp_path / "out", "recipes")
    monkeypatch.setattr(_main, "_run", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["recipes"])


def test_a_batch_too_small_for_a_norm(tmp_path: Path, capsys: Say) -> None:
    lone = options(network__kind="vgg11", network__time_steps=1, data__batch_size=1)
    assert "larger data.batch_size" in refused(capsys, tmp_path / "out", "train", "--out", str(tmp_path / "run"), *lone)


def test_options_of_an_optimizer_that_only_a_step_refuses(tmp_path: Path, capsys: Say) -> None:
    for option in ("differentiable", "capturable"):
        words = options(optimizer__kind="adam", **{f"optimizer__{option}": "true"})
        said = refused(capsys, tmp_path / "out", "train", "--out", str(tmp_path / "run"), *words)
        assert option in said
        assert "leave it out" in said


def test_wrong_runs(tmp_path: Path, capsys: Say) -> None:
    run, work = tmp_path / "whole", tmp_path / "work"
    assert main(["train", "--out", str(run), *options(training__epochs=1)]) == 0

    def damage(name: str, content: bytes | None) -> str:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(run, work)
        (work / name).unlink()
        if content is not None:
            (work / name).write_bytes(content)
        return str(work)

    header = b"\x10\x00\x00\x00\x00\x00\x00\x00{}" + b" " * 14
    for name, content, word in (
        *(("network.safetensors", bad, "network.safetensors") for bad in (b"", b"{}", b"x" * 100, header, None)),
        ("recipe.yaml", b"neuron: 3", "is damaged: it has no entry network"),
        ("recipe.yaml", b"network: {}\nneuron: 3", "recipe.yaml is not a recipe: neuron"),
        ("recipe.yaml", None, "holds no run (no recipe.yaml)"),
    ):
        assert word in refused(capsys, tmp_path / "out", "evaluate", damage(name, content))
    for content in (b"", b"[]", b"{", b"\xff\xfe"):
        again = ["train", "--resume", "--out", damage("result.json", content), *options(training__epochs=1)]
        assert "result.json is damaged" in refused(capsys, tmp_path / "out", *again)
