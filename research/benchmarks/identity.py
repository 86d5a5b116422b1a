"""The code, the versions and the machine that a result depends on."""

import hashlib
import json
import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import shortcut_snn

PACKAGES = ("torch", "numpy", "numba", "triton", "spikingjelly", "snntorch", "norse")
_PACKAGE = Path(shortcut_snn.__file__).parent
_HERE = Path(__file__).parent
# The code that is timed. A change of other code, such as the report, needs no new measurement.
_TIMED = (
    _PACKAGE / "neurons", _PACKAGE / "nets", _PACKAGE / "method", _PACKAGE / "deploy" / "folding.py",
    _PACKAGE / "deploy" / "inference.py", _HERE / "peers", _HERE / "tasks", _HERE / "measure", _HERE / "dynamics.py",
)  # fmt: skip


def code() -> str:
    """Return a hash of the code that is measured and of the code that measures."""
    digest = hashlib.sha256()
    for folder in _TIMED:
        # The tables choose the kernels.
        files = [path for path in folder.rglob("*") if path.suffix in (".py", ".csv")]
        for path in sorted(files) if folder.is_dir() else [folder]:
            digest.update(f"{folder.name}/{path.relative_to(folder)}".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def commit() -> str:
    """Return the commit that is checked out, or an empty string outside a repository or without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, cwd=_HERE, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def cpus() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return model[1].strip() if model else platform.processor() or platform.machine()


def _flags() -> list[str]:
    """Return the instruction sets of the processor that speed up convolutions."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    return [flag for flag in wanted if re.search(rf"\b{flag}\b", text)]


def machine(device: str, threads: int) -> dict[str, Any]:
    """Describe the machine."""
    description: dict[str, Any] = {"processor": _processor(), "instructions": _flags(), "threads": threads}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        description["memory_gib"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)
    if device == "cuda":
        import torch

        description["gpu"] = torch.cuda.get_device_name()
    return description | {"device": device, "system": platform.system()}


def versions() -> dict[str, str]:
    """Return the versions of the installed packages that are measured."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def key(*parts: Any) -> str:
    """Return a short hash of JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]
