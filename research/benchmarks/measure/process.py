"""The measuring side of a worker process."""

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[3]


class WorkerFailed(RuntimeError):
    """A worker died, or did not answer in time."""


class Worker:
    """A contender's process, as a context manager.

    Args:
        threads: threads of torch, OpenMP and numba.
        limit: time limit of a request in seconds.
        root: clone whose code the process runs.
    """

    def __init__(self, threads: int, limit: float = 900.0, root: Path = ROOT) -> None:
        env = os.environ | {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "NUMBA")}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), str(root / "src"), os.environ.get("PYTHONPATH")]))
        # Clones of earlier versions have their benchmarks at the top.
        package = "research.benchmarks" if (root / "research").is_dir() else "benchmarks"
        self.threads, self.limit = threads, limit
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in __exit__)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", f"{package}.measure.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=env,
            cwd=root,
        )

    def ask(self, do: str, **request: Any) -> Any:
        """Send a request and return the reply.

        Raises:
            WorkerFailed: with the last line of what the worker printed.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, "threads": self.threads} | request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise WorkerFailed(self._last_words()) from None
        if not select.select([self.process.stdout], [], [], self.limit)[0]:
            raise WorkerFailed(f"no answer to {do!r} in {self.limit:g} s")
        line = self.process.stdout.readline()
        if not line:
            raise WorkerFailed(self._last_words())
        return json.loads(line)["reply"]

    def _last_words(self) -> str:
        code = self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        return lines[-1] if lines and code > 0 else f"the process ended with {code} (out of memory?)"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        self.errors.close()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None and not pipe.closed:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
