"""Import custom components: files and modules named on the command line.

A recipe names components and never imports anything. The run's folder records what was imported.
"""

import hashlib
import importlib
import importlib.util
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any


def import_components(names: Sequence[str]) -> list[dict[str, Any]]:
    """Import files and modules that register components.

    Args:
        names: paths of Python files, or names of modules.

    Returns:
        A record of each import: its name, and a version or the SHA-256 of the file.

    Raises:
        ValueError: one of them cannot be imported.

    Example:
        >>> import_components(["json"])[0]["name"]
        'json'
    """
    return [_import(name) for name in names]


def _import(name: str) -> dict[str, Any]:
    path = Path(name)
    try:
        if path.suffix == ".py" or path.is_file():
            _import_file(path)
            return {"name": name, "sha256": _sha256(path)}
        module = importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"{name} cannot be imported: {reason}") from error
    try:
        return {"name": name, "version": metadata.version(name.partition(".")[0])}
    except metadata.PackageNotFoundError:
        return {"name": name, "sha256": _sha256(Path(module.__file__))} if module.__file__ else {"name": name}


def _import_file(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError("the file does not exist")
    name = path.stem
    loaded = sys.modules.get(name)
    if loaded is not None and Path(getattr(loaded, "__file__", None) or "").resolve() != path.resolve():
        raise ValueError(f"another module has the name {name}; rename the file")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError("it is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # DataLoader workers unpickle the classes of the file by this name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def missing_imports(imports: Iterable[Mapping[str, Any]]) -> str:
    """Return how to import what a run imported and this process has not, as the end of an error message."""
    names = [str(record["name"]) for record in imports]
    modules = [Path(name).stem if Path(name).suffix == ".py" else name.partition(":")[0] for name in names]
    missing = [name for name, module in zip(names, modules, strict=True) if module not in sys.modules]
    if not missing:
        return ""
    options = " ".join(f"--import {shlex.quote(name)}" for name in missing)
    return f"; the run imported {', '.join(missing)}: add {options}"
