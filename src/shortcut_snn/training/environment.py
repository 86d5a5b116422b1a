"""Where a run happens: versions, machine, command."""

import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from importlib import metadata
from typing import Any

import torch

from .. import __version__


def environment(imports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return versions, machine, command and time, and what was imported."""
    versions = {}
    for name in ("torch", "torchvision", "lightning", "numpy", "numba", "triton"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "shortcut_snn": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": versions,
        "imports": list(imports),
        "command": sys.argv,
        "commit": commit(),
        "date": datetime.now().isoformat(timespec="seconds"),
    }


def commit() -> str | None:
    """Return the commit of the git repository that is the current folder's, None where there is none."""
    # Of all questions to git, one that runs nothing of what a repository configures.
    with suppress(OSError, subprocess.SubprocessError):
        asked = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5)
        return asked.stdout.strip() or None if asked.returncode == 0 else None
    return None
