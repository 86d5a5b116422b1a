"""The examples in docstrings run, and what is public has one."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import shortcut_snn

from .registered import forgetting

PACKAGES = ("analysis", "data", "deploy", "lightning", "method", "nets", "neurons", "recipes", "runs")
# Kernels for GPUs are there only where triton is.
MODULES = [
    each.name
    for each in pkgutil.walk_packages(shortcut_snn.__path__, "shortcut_snn.")
    if "triton" not in each.name and not each.name.endswith("__main__")
]
# What is explained by the example of what it belongs to: bases, protocols, records that functions return.
BELONGING = {
    "Agreement", "Diagnosis", "EnergyReport", "Examination", "LayerReport", "Verdict", "Card", "Exporter", "Runtime",
    "Inference", "Data", "Loaders", "Objective", "BranchWeight", "Surrogate", "Resizable", "Backend", "Packing",
    "Interrupted", "Source", "Augmentation", "AutoAugment", "Crop", "Cutout", "Flip", "ResizedCrop", "Roll", "Images",
    "EventSet", "held_out_test", "card", "file_name", "load", "load_file", "names", "StoredSet", "Criterion",
    "Membrane", "Training", "DataFileError",
}  # fmt: skip


@pytest.fixture
def forgotten():
    """What an example registers is forgotten behind it."""
    with forgetting():
        yield


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch, forgotten):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert not failed


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_public_has_an_example(package):
    module = importlib.import_module(f"shortcut_snn.{package}")
    without = []
    for name in module.__all__:
        thing = getattr(module, name)
        callable_here = inspect.isclass(thing) or inspect.isfunction(thing)
        if callable_here and name not in BELONGING and ">>>" not in (thing.__doc__ or ""):
            without.append(name)
    assert not without, f"no example in {package}: {', '.join(without)}"
