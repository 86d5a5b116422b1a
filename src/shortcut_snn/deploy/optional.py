"""Packages of the optional extras, imported where they are needed."""

import importlib
from typing import Any


def require(package: str, purpose: str, extra: str = "export") -> Any:
    """Import a package of an extra.

    Raises:
        OSError: the package is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        # A dependency of the package may be what is missing.
        if error.name and not package.startswith(error.name):
            raise
        name = package.partition(".")[0]
        raise OSError(f"{purpose} needs {name}, which is not installed: pip install 'shortcut-snn[{extra}]'") from None
