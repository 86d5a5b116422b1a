"""No file runs code: neither a checkpoint, a recipe, an archive nor a data set."""

import ast
import json
import os
import pickle
import shutil
import tarfile
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import shortcut_snn
from shortcut_snn._utils import yaml_text
from shortcut_snn.cli import main
from shortcut_snn.deploy.safetensors_files import read_network
from shortcut_snn.training.trainer import read_checkpoint

SOURCE = Path(shortcut_snn.__file__).parent
SAFE_YAML = {"safe_load", "safe_dump", "YAMLError"}
# Names of PyYAML that yaml_text uses besides; none of them makes objects.
YAML_INSIDE = {
    "constructor.ConstructorError",
    "composer.ComposerError",
    "SafeLoader.yaml_implicit_resolvers.items",
    "parse",
}


@cache
def calls() -> list[tuple[str, str, ast.Call]]:
    """Return every call in the source: its place, the name of the function, and its syntax tree."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                found.append((f"{path.relative_to(SOURCE)}:{node.lineno}", ast.unparse(node.func), node))
    return found


def given(call: ast.Call, name: str) -> object:
    return next((ast.unparse(word.value) for word in call.keywords if word.arg == name), None)


# Kernels are compiled from the traced operations of a neuron's step.
KERNELS = tuple(f"neurons/{name}.py" for name in ("cpu/kernels/step", "gpu/kernels/step", "compiler/trace"))


def test_the_source_loads_no_pickles_and_runs_no_text() -> None:
    names = [name for _, name, _ in calls()]
    assert {"torch.load", "np.load"} <= set(names), "the test would find them"
    for where, name, call in calls():
        if name == "torch.load":
            assert given(call, "weights_only") == "True", where
        if name in ("np.load", "numpy.load"):
            assert given(call, "allow_pickle") == "False", where
        if name == "yaml.load":
            assert ast.unparse(call.args[1]) == "_Loader", where
        elif name == "yaml.dump":
            assert given(call, "Dumper") == "_Dumper", where
        elif name.startswith("yaml."):
            assert name.removeprefix("yaml.") in SAFE_YAML | YAML_INSIDE, where
        if name.endswith("trainer.fit"):
            assert given(call, "weights_only") == "True", where
        if not where.startswith(KERNELS):
            assert name not in ("eval", "exec", "compile"), where
        assert name not in ("__import__", "os.system", "os.popen", "marshal.load"), where
        assert not name.startswith(("pickle.load", "joblib.", "dill.", "shelve.", "cloudpickle.")), where
        assert given(call, "shell") in (None, "False"), where


def test_the_loader_of_recipes_is_a_safe_one() -> None:
    assert issubclass(yaml_text._Loader, yaml.SafeLoader)
    assert set(yaml_text._Loader.yaml_constructors) == set(yaml.SafeLoader.yaml_constructors)
    assert yaml_text._Loader.yaml_multi_constructors == yaml.SafeLoader.yaml_multi_constructors
    assert issubclass(yaml_text._Dumper, yaml.SafeDumper)
    assert yaml_text._Dumper.yaml_representers == yaml.SafeDumper.yaml_representers


def test_no_file_imports_pickle() -> None:
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            assert "pickle" not in names, path
            assert getattr(node, "module", None) != "pickle", path


class Malice:
    """Pickles to a call that leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, (f"touch {self.path}",))


@pytest.fixture
def victim(tmp_path: Path):
    path = tmp_path / "victim"
    yield path
    assert not path.exists(), "code was run"
    # The test would notice.
    pickle.loads(pickle.dumps(Malice(path)))
    assert path.exists()


def test_a_checkpoint(tmp_path: Path, victim: Path) -> None:
    path = tmp_path / "checkpoint.ckpt"
    for content in ({"state_dict": Malice(victim), "loops": {}}, Malice(victim)):
        torch.save(content, path)
        with pytest.raises(ValueError, match="checkpoint"):
            read_checkpoint(path)
    path.write_bytes(pickle.dumps(Malice(victim)))
    with pytest.raises(ValueError, match="checkpoint"):
        read_checkpoint(path)


def test_a_network(tmp_path: Path, victim: Path) -> None:
    path = tmp_path / "network.safetensors"
    torch.save({"weight": Malice(victim)}, path)
    with pytest.raises(ValueError, match="safetensors"):
        read_network(path)


@pytest.mark.parametrize("name", ["npz", "events_npz"])
def test_an_archive(tmp_path: Path, victim: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    path = tmp_path / "data.npz"
    keys = ("x_train", "y_train", "x_test", "y_test", "x", "y", "p", "t", "offsets", "labels", "class_names")
    np.savez(path, **{key: np.array([Malice(victim)], dtype=object) for key in keys})
    arguments = ["--data.kind", name, "--data.root", str(path), "--data.cache", "off"][: 6 if "_" in name else 4]
    assert main(["train", "--out", str(tmp_path / "run"), *arguments]) == 1
    assert "data.npz" in capsys.readouterr().err


def test_an_array_of_events(tmp_path: Path, victim: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        (tmp_path / "events" / name).mkdir(parents=True)
        for number in range(4):
            np.save(tmp_path / "events" / name / f"{number}.npy", np.array([Malice(victim)], dtype=object))
    arguments = ["--data.kind", "events", "--data.root", str(tmp_path / "events"), "--data.sensor", "[9, 9]"]
    arguments += ["--data.cache", "off", "--network.width", "2"]
    assert main(["train", "--out", str(tmp_path / "run"), *arguments]) == 1
    assert ".npy" in capsys.readouterr().err


CLASSES = [
    "neuron: {class_path: os.system, init_args: {command: 'touch VICTIM'}}",
    "neuron: {kind: shortcut_snn.neurons.LIF}",
    "optimizer: torch.optim.AdamW",
    "loggers: [os.system]",
    "import: evil.py",
    "training: {epochs: !!python/object/apply:os.system ['touch VICTIM']}",
    "method: {branches: !!python/name:os.system }",
]


@pytest.mark.parametrize("text", CLASSES)
def test_a_recipe_names_no_classes_and_imports_nothing(
    tmp_path: Path, victim: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text.replace("VICTIM", str(victim)))
    (tmp_path / "evil.py").write_text(f"open({str(victim)!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--config", str(path), "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_options_name_no_classes(tmp_path: Path, victim: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = json.dumps({"class_path": "os.system", "init_args": {"command": f"touch {victim}"}})
    for option in ("--neuron=os.system", f"--neuron.surrogate={entries}"):
        assert main(["train", "--out", str(tmp_path / "run"), option]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_paths_in_an_archive_stay_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Members of an archive are not written to the disk."""
    path = tmp_path / "inner" / "data.npz"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        outside = ("../../escaped.npy", str(tmp_path / "escaped.npy"))
        for name in (*outside, "x_train.npy", "y_train.npy", "x_test.npy", "y_test.npy"):
            archive.writestr(name, b"\x93NUMPY")
    before = sorted(tmp_path.rglob("*"))
    assert main(["train", "--out", str(tmp_path / "run"), "--data.kind", "npz", "--data.root", str(path)]) == 1
    assert "data.npz" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_downloaded_archive_is_not_unpacked_unless_it_is_the_official_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import utils

    with tarfile.open(tmp_path / "cifar.tar.gz", "w:gz") as archive:
        (tmp_path / "content").write_text("mine")
        archive.add(tmp_path / "content", "../../escaped")
        archive.add(tmp_path / "content", "cifar-10-batches-py/data_batch_1")
    monkeypatch.setattr(utils, "_urlretrieve", lambda url, path, *_: shutil.copy(tmp_path / "cifar.tar.gz", path))
    root = tmp_path / "a" / "b"
    arguments = ["--data.kind", "cifar10", "--data.root", str(root), "--data.download", "true"]
    assert main(["train", "--out", str(tmp_path / "run"), *arguments]) == 1
    assert "could not be downloaded" in capsys.readouterr().err
    assert not list(root.rglob("*"))
    assert not list(tmp_path.rglob("escaped"))
