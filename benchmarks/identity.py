"""What a result depends on: the code, the versions and the machine."""

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
# What is timed: the report may change without a new measurement, and so may what is around nets and neurons.
_TIMED = (
    _PACKAGE / "neurons", _PACKAGE / "nets", _PACKAGE / "method", _PACKAGE / "deploy" / "folding.py",
    _PACKAGE / "deploy" / "torch_runtime.py", _HERE / "peers", _HERE / "tasks", _HERE / "measure",
)  # fmt: skip


def code() -> str:
    """Return a hash of the code that is measured and of the code that measures."""
    digest = hashlib.sha256()
    for folder in _TIMED:
        for path in sorted(folder.rglob("*.py")) if folder.is_dir() else [folder]:
            digest.update(f"{folder.name}/{path.relative_to(folder)}".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def commit() -> str:
    """Return the commit that is checked out, or nothing outside a repository."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=_HERE, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip()


def cpus() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _flags() -> list[str]:
    """Instruction sets that decide how fast convolutions are."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    return [flag for flag in wanted if re.search(rf"\b{flag}\b", text)]


def machine(device: str, threads: int) -> dict[str, Any]:
    """Describe the machine."""
    found: dict[str, Any] = {"processor": _processor(), "instructions": _flags(), "threads": threads}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found["memory_gib"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)
    if device == "cuda":
        import torch

        found["gpu"] = torch.cuda.get_device_name()
    return found | {"device": device, "system": platform.system()}


def versions() -> dict[str, str]:
    """Return the versions of what is measured; packages that are not installed are left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def key(*parts: Any) -> str:
    """Return a short hash of what a result depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]
