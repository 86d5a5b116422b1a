"""The public interface: what ``__all__`` names is documented, and does not change unnoticed.

``python -m tests.test_public_interface`` writes the snapshot again, for a change that CHANGELOG.md names.
"""

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import shortcut_snn

ROOT = Path(shortcut_snn.__file__).parent
SNAPSHOT = Path(__file__).with_name("public_interface.txt")
PACKAGES = ["", *sorted(path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != "_utils")]


def module_of(package: str) -> object:
    return importlib.import_module(f"shortcut_snn.{package}".rstrip("."))


def signature(thing: object) -> str:
    """Return the parameters of a class or function, with defaults that are the same in every process."""
    if dataclasses.is_dataclass(thing):
        return f"({', '.join(field.name for field in dataclasses.fields(thing))})"
    if not callable(thing):
        return ""
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return ""
    return f"({', '.join(map(text, parameters))})"


def text(parameter: inspect.Parameter) -> str:
    """Return a parameter with its kind and default, without the address of an object."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    only = "keyword " if parameter.kind is inspect.Parameter.KEYWORD_ONLY else ""
    has_default = parameter.default is not inspect.Parameter.empty
    default = re.sub(r" at 0x\w+", "", repr(parameter.default)) if has_default else ""
    return f"{only}{stars}{parameter.name}" + (f"={default}" if default else "")


def interface() -> Iterator[str]:
    """Yield a line for each public name. A name of the top level is not repeated for its package."""
    top = {id(getattr(shortcut_snn, name)) for name in shortcut_snn.__all__}
    for package in PACKAGES:
        module = module_of(package)
        for name in sorted(getattr(module, "__all__", ())):
            thing = getattr(module, name)
            if name == "__version__" or (package and (inspect.ismodule(thing) or id(thing) in top)):
                continue
            yield f"{f'{package}.'.lstrip('.')}{name}{signature(thing)}"


def test_names_and_signatures_are_those_of_the_snapshot() -> None:
    now, before = list(interface()), SNAPSHOT.read_text(encoding="utf-8").splitlines()
    assert len(now) > 100
    assert now == before, "the public interface has changed: name it in CHANGELOG.md, and write the snapshot again"


def test_public_names_are_documented() -> None:
    root = ROOT.parents[1]
    files = [*(root / "docs").glob("*.md"), *(root / "examples").glob("**/*.py")]
    pages = set(re.findall(r"\w+", "".join(file.read_text(encoding="utf-8") for file in files)))
    names = {line.partition("(")[0].rpartition(".")[2] for line in interface()}
    assert not names - pages


if __name__ == "__main__":
    SNAPSHOT.write_text("".join(f"{line}\n" for line in interface()), encoding="utf-8")
