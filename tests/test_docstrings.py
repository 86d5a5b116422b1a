"""The examples in docstrings run, and what is public has one."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import shortcut_snn

from .registered import forgetting

# Kernels for GPUs are there only where triton is.
MODULES = [
    module.name
    for module in pkgutil.walk_packages(shortcut_snn.__path__, "shortcut_snn.")
    if "triton" not in module.name and not module.name.endswith("__main__")
]


@pytest.fixture
def forgotten():
    """Forget what an example registers."""
    with forgetting():
        yield


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch, forgotten):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert not failed


# Shown by the examples of Task and fit.
SHOWN_ELSEWHERE = {"Training"}


def test_public_names_have_an_example():
    public = {name: getattr(shortcut_snn, name) for name in shortcut_snn.__all__}
    without = [
        name
        for name, thing in public.items()
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and ">>>" not in (thing.__doc__ or "")
    ]
    assert set(without) == SHOWN_ELSEWHERE
