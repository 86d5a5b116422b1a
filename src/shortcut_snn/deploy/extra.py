"""Packages that only some of it needs."""

import importlib
from typing import Any


def need(package: str, what: str, extra: str = "export") -> Any:
    """Import a package of an extra.

    Raises:
        OSError: it is not installed; the message says how to.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name and not package.startswith(error.name):
            raise
        missing = package.partition(".")[0]
        raise OSError(f"{what} needs {missing}, which is not installed: pip install 'shortcut-snn[{extra}]'") from None
