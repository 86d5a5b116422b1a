"""The package as a whole: what it imports, and which way its imports point."""

import ast
import graphlib
import importlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import shortcut_snn

ROOT = Path(shortcut_snn.__file__).parent
# From the lowest layer to the highest: a package imports only from layers below its own.
LAYERS = (
    "_utils", "components", "neurons", "method", "introspection", "nets", "data", "energy", "measurement",
    "initialisation", "wrapping", "attachment", "diagnosis", "plots", "deploy", "training", "recipes", "cli",
)  # fmt: skip


parsed = cache(lambda path: ast.parse(path.read_text(encoding="utf-8")))


def imported(path: Path) -> set[str]:
    """Folders and modules of the package that a file imports from outside its own folder."""
    depth = len(path.relative_to(ROOT).parts)
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            found |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("shortcut_snn"):
            found.add(f"{node.module}.".split(".")[1])
    return found - {"__version__"}


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_point_downwards(layer):
    below = set(LAYERS[: LAYERS.index(layer) + 1])
    for path in [ROOT / f"{layer}.py"] if (ROOT / f"{layer}.py").is_file() else (ROOT / layer).rglob("*.py"):
        upwards = imported(path) - below
        assert not upwards, f"{path.relative_to(ROOT)} imports {upwards}"


def hidden_imports(path: Path) -> list[str]:
    """Return the imports of a file that take a private name, or a name that a package's ``__init__`` does not have."""
    parts = path.relative_to(ROOT).parts
    hidden = []
    for node in ast.walk(parsed(path)):
        if not isinstance(node, ast.ImportFrom) or node.level != len(parts) or not node.module:
            continue
        package, *inner = node.module.split(".")
        if package == parts[0] or not (ROOT / package).is_dir():
            continue
        public = getattr(importlib.import_module(f"shortcut_snn.{package}"), "__all__", ())
        names = [alias.name for alias in node.names]
        if any(name.startswith("_") for name in (*inner, *names)) or (not inner and set(names) - set(public)):
            hidden.append(ast.unparse(node))
    return hidden


def test_packages_import_public_names_from_the_front_door_and_others_from_their_module():
    hidden = {str(path.relative_to(ROOT)): names for path in ROOT.rglob("*.py") if (names := hidden_imports(path))}
    assert not hidden, hidden


def files(path: Path) -> set[Path]:
    """Files of the package that a file imports, at the top or within a function."""
    found = set()
    for node in ast.walk(parsed(path)):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
        for name in [base] if base.with_suffix(".py").is_file() else [base / alias.name for alias in node.names]:
            inside = [name.with_suffix(".py"), name / "__init__.py", name.parent / "__init__.py"]
            found.add(next(each for each in inside if each.is_file()))
    # Of the package itself only the version is taken, as the test above holds.
    return found - {ROOT / "__init__.py"}


def test_no_file_imports_what_imports_it():
    """A circle that an import within a function hides is one too."""
    imports = {path: files(path) for path in ROOT.rglob("*.py")}
    assert sum(map(len, imports.values())) > len(imports)
    list(graphlib.TopologicalSorter(imports).static_order())


def test_top_level_names_are_there():
    for name in shortcut_snn.__all__:
        assert getattr(shortcut_snn, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Shortcuts'"):
        shortcut_snn.Shortcuts  # noqa: B018


def test_library_needs_little_more_than_torch(nothing_imported, kernels):
    """Method, neurons, networks and `load` work without the `train` extra, and change neither path nor environment."""
    code = """
import os, sys
before = list(sys.path), dict(os.environ)
for name in ("lightning", "torchvision", "sklearn", "matplotlib", "scipy", "yaml", "numba"):
    sys.modules[name] = None  # importing it now fails
import torch
from shortcut_snn import attach, load, nets
assert before == (list(sys.path), dict(os.environ))
model = attach(nets.spiking_resnet8(10, 2, width=4), method="evolutionary", log=lambda line: None)
loss = model.loss(model(torch.randn(2, 3, 16, 16)), torch.tensor([1, 2]), 0, 10)
loss.backward()
load("digits-resnet18").predict(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_recipes_know_the_components_of_every_module(nothing_imported):
    """A module that nothing imports registers nothing, though its tests pass."""
    registering = [path for path in ROOT.rglob("*.py") if "\n@components." in path.read_text(encoding="utf-8")]
    names = {".".join(("shortcut_snn", *path.relative_to(ROOT).with_suffix("").parts)) for path in registering}
    code = "import sys, shortcut_snn.recipes; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert len(names) > 20
    assert names <= set(done.stdout.split())
