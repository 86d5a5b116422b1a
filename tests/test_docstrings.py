"""The examples in docstrings run, and what is public has one."""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import shortcut_snn

# Kernels for GPUs are there only where triton is.
MODULES = [
    module.name
    for module in pkgutil.walk_packages(shortcut_snn.__path__, "shortcut_snn.")
    if "triton" not in module.name and not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch, forgotten):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert not failed


# Options, protocols, what a function returns, and an upload: the pages and the examples of others show them.
SHOWN_ELSEWHERE = {
    "Card", "Data", "Diagnosis", "EnergyReport", "EventSet", "Examination", "Exporter", "Initialisation", "LayerReport",
    "Resizable", "Source", "Surrogate", "Training", "Verdict", "compare", "load_run",
}  # fmt: skip


def documented() -> dict[str, object]:
    """Return what the pages of the API list, by name."""
    names = {}
    for page in sorted((Path(__file__).parents[1] / "docs").glob("api*.md")):
        for package, block in re.findall(r"```{api} (\S+)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            module = importlib.import_module(package)
            names |= {name: getattr(module, name) for name in (line.partition(":")[0] for line in block.splitlines())}
    return names


def test_documented_names_have_an_example():
    things = {
        name: thing for name, thing in documented().items() if inspect.isclass(thing) or inspect.isfunction(thing)
    }
    assert len(things) > 100
    assert {name for name, thing in things.items() if ">>>" not in (thing.__doc__ or "")} == SHOWN_ELSEWHERE


def test_the_names_of_the_top_level_are_documented():
    things = (name for name in shortcut_snn.__all__ if not inspect.ismodule(getattr(shortcut_snn, name)))
    assert set(things) - {"__version__"} <= set(documented())
