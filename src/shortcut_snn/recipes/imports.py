"""Components of a user's own: from files and modules that a person names, and from installed packages.

A recipe never imports anything: it names kinds. What was imported is noted in the run's folder.
"""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

GROUP = "shortcut_snn.components"
"""Entry points of installed packages whose modules register components."""


def import_components(names: Sequence[str]) -> list[dict[str, Any]]:
    """Import files and modules that register components, and those of installed packages.

    Args:
        names: paths of Python files, or names of modules.

    Returns:
        What was imported: name and version, or name and hash of the file; of an installed package, its name too.

    Raises:
        ValueError: one cannot be imported; the message says why.

    Example:
        >>> import_components(["json"])[0]["name"]
        'json'
    """
    found = [_import(name) for name in names]
    for point in metadata.entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:
            raise ValueError(
                f"the package of the entry point {point.value} cannot be imported: {_one_line(error)}"
            ) from error
        package = {} if point.dist is None else {"package": point.dist.name, "version": point.dist.version}
        found.append({"name": point.value} | package)
    return found


def _import(name: str) -> dict[str, Any]:
    path = Path(name)
    try:
        if path.suffix == ".py" or path.is_file():
            return _import_file(path)
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise ValueError(f"--import {name}: it cannot be imported: {_one_line(error)}") from error
    top = name.partition(".")[0]
    try:
        return {"name": name, "version": metadata.version(top)}
    except metadata.PackageNotFoundError:
        return {"name": name} | _fingerprint(Path(module.__file__)) if module.__file__ else {"name": name}


def _import_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    name = path.stem
    there = sys.modules.get(name)
    if there is not None and Path(getattr(there, "__file__", None) or "").resolve() != path.resolve():
        raise ValueError(f"there is a module {name} already; rename the file")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError("it is no Python file")
    module = importlib.util.module_from_spec(spec)
    # Processes that load data find the file's classes under this name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return {"name": str(path)} | _fingerprint(path)


def _fingerprint(path: Path) -> dict[str, str]:
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def hint(imports: Iterable[Mapping[str, Any]]) -> str:
    """Return what to do where a run's imports are missing, as the end of a sentence; nothing where none is.

    Args:
        imports: of the run, as :func:`import_components` returned them.
    """
    missing = [each for each in imports if not _is_imported(str(each["name"]))]
    names = [str(each["name"]) for each in missing if "package" not in each]
    packages = dict.fromkeys(f"{each['package']} {each['version']}" for each in missing if "package" in each)
    text = ""
    if names:
        text += f"; the run imported {', '.join(names)}: add " + " ".join(f"--import {name}" for name in names)
    if packages:
        text += f"; the run imported the installed package {', '.join(packages)}: install it"
    return text


def _is_imported(name: str) -> bool:
    path = Path(name)
    return (path.stem if path.suffix == ".py" else name.partition(":")[0]) in sys.modules


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
