"""Packages that only some formats need."""

import importlib
from typing import Any

PIP = "pip install 'shortcut-snn[export]'"


def need(package: str, what: str) -> Any:
    """Import a package of the extra ``export``.

    Raises:
        OSError: it is not installed; the message says how to.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name and not package.startswith(error.name):
            raise
        raise OSError(f"{what} needs {package.partition('.')[0]}, which is not installed: {PIP}") from None
