"""The folder of a run: its files, who may write to it, and how they are written and read."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor

from .._utils.files import make_folder, read_json, refuse_others, remove_strays, write_text
from .._utils.yaml_text import as_yaml, parse
from ..components.entries import read, write
from ..components.registry import KINDS
from ..deploy.safetensors_files import read_network
from .provenance import check_resumable

Row = dict[str, Any]
FORMAT = 5
"""The version of the folder's format; a run resumes only in the version that it was written in."""
_LOCK_SECONDS = 6
# A killed run leaves these before it has a recipe; MLflow's logger makes its database before training starts.
_WRITTEN_FIRST = {"environment.json", "split.txt", "surrogates.json", "run.lock", "mlflow.db", "mlflow.db-journal"}
_RESULT_TYPES: dict[str, Any] = {
    "metric": str,
    **dict.fromkeys(("test_last", "test_best", "validation_last", "validation_best"), dict | None),
    **dict.fromkeys(("chance", "gradient_ratio_first_epoch", "gradient_ratio_last_epoch"), int | float | None),
    "seconds_per_epoch": int | float,
}


class RunFolder:
    """The folder of one run.

    It holds ``recipe.yaml``, ``environment.json``, ``metrics.csv``, ``gradients.csv``, ``layers.csv``, ``timing.csv``
    (epochs count from 1), ``energy.csv``, plots, ``checkpoint.ckpt`` and ``result.json``. The deployed networks are
    ``network.safetensors`` (last epoch) and ``best.safetensors`` (best epoch on validation data). A classification adds
    ``confusion.csv``, image folders and recordings ``split.txt``, and surrogates that were set
    ``surrogates.json``.

    Args:
        path: path of the folder; it need not exist.

    Example:
        >>> RunFolder("runs/digits").network("last").name
        'network.safetensors'
    """

    def __init__(self, path: str | Path) -> None:
        # Absolute, so that a later change of the current folder has no effect.
        self._text, self.path = str(path), Path(path).absolute()
        self.recipe = self / "recipe.yaml"
        self.checkpoint = self / "checkpoint.ckpt"
        self.result = self / "result.json"
        self.split = self / "split.txt"
        self.surrogates = self / "surrogates.json"
        self.environment = self / "environment.json"
        """Versions, machine, imports and the data's fingerprint."""

    def __str__(self) -> str:
        """Return the path as the caller wrote it."""
        return self._text

    def __truediv__(self, name: str) -> Path:
        """Return the path of a file in the folder."""
        return self.path / name

    def table(self, name: str) -> Path:
        """Return the path of a table such as ``"metrics"``."""
        return self / f"{name}.csv"

    def network(self, weights: str) -> Path:
        """Return the path of the network of the ``"last"`` or the ``"best"`` epoch."""
        return self / {"last": "network.safetensors", "best": "best.safetensors"}[weights]

    @property
    def checkpoint_time(self) -> int | None:
        """When the checkpoint was written, in nanoseconds; None without one."""
        return self.checkpoint.stat().st_mtime_ns if self.checkpoint.is_file() else None

    @property
    def lost_best(self) -> str:
        """The error if the network of the best epoch is needed and cannot be read."""
        return (
            f"{self.network('best')} was removed or damaged while the run trained: restore it, or delete "
            f"{self.checkpoint.name} and start again with resume"
        )

    @property
    def is_run(self) -> bool:
        """True if the folder holds a run, and so a recipe."""
        return self.recipe.is_file()

    @property
    def is_finished(self) -> bool:
        """True if the run of the folder is finished, and so has a result."""
        return self.result.is_file()

    # Starting and resuming.

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against other processes; the operating system unlocks it if this one is killed.

        Raises:
            ValueError: another process trains in the folder.
        """
        make_folder(self.path)
        # Data loader workers inherit the lock and outlive a killed run by up to 5 s.
        lock = FileLock(self / "run.lock", timeout=_LOCK_SECONDS)
        try:
            lock.acquire()
        except Timeout:
            raise ValueError(
                f"another process is training in {self}; wait until it ends, or name another folder"
            ) from None
        except (OSError, NotImplementedError):
            # Some network disks cannot lock files. Two runs in one folder are then the user's responsibility.
            yield
            return
        try:
            remove_strays(self.path, older_than=0)
            yield
        finally:
            with suppress(OSError):
                (self / "run.lock").unlink()
            lock.release()
            # Fails unless nothing was written.
            with suppress(OSError):
                self.path.rmdir()

    def start(self, entries: Mapping[str, Any], resume: bool) -> Path | None:
        """Check that a run with this recipe may start or resume here; return the checkpoint to resume from, if any."""
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"{self} is a file; name a folder for the run")
        if not self.is_run:
            refuse_others(self.path, f"{self} is not empty and holds no run", _WRITTEN_FIRST)
            return None
        if not self.checkpoint.is_file() and not self.is_finished:
            # The run failed before its first checkpoint, perhaps because of its recipe: start again.
            return None
        if not resume:
            raise FileExistsError(f"{self} holds a run already; resume it, or name another folder")
        if not self.environment.is_file():
            raise ValueError(f"{self.environment} was removed: restore it, or name another folder")
        version = read_json(self.environment).get("format", 1)
        if version != FORMAT:
            raise ValueError(f"{self} has format {version}, and this version resumes format {FORMAT}")
        self.check_recipe(entries)
        return self.checkpoint if self.checkpoint.is_file() else None

    def check_recipe(self, entries: Mapping[str, Any]) -> None:
        """Raise ``ValueError`` unless the run in the folder can resume with these entries of a recipe."""
        before = {name: _with_current_names(name, value) for name, value in self.read_entries().items()}
        check_resumable(before, entries, f"the run in {self}")

    def check_data(self, split: str, fingerprint: str) -> None:
        """Raise ``ValueError`` if the data's split or contents are not those of the run; empty texts are unknown."""
        if split and self.split.is_file() and self.split.read_text(encoding="utf-8") not in ("", split):
            raise ValueError(f"the data's split differs from the run's, which is in {self.split}; restore the samples")
        if fingerprint and self.fingerprint() not in ("", fingerprint):
            raise ValueError(
                f"the data differ from those of the run in {self}: other samples, sizes or contents; restore them, or "
                "name another folder"
            )

    def begin(
        self, entries: Mapping[str, Any], split: str, surrogates: Mapping[str, Any], environment: Mapping[str, Any]
    ) -> None:
        """Write everything that is known before the first step."""
        origin = {"format": FORMAT, "has_surrogates": bool(surrogates), **environment}
        write_text(self.environment, json.dumps(origin, indent=2) + "\n")
        if split:
            write_text(self.split, split)
        if surrogates:
            write_text(self.surrogates, json.dumps(dict(surrogates), indent=2) + "\n")
        else:
            # An earlier run that failed at once may have left its own.
            self.surrogates.unlink(missing_ok=True)
        # Last, since a folder with a recipe is a run.
        write_text(self.recipe, as_yaml(entries))

    def read_surrogates(self) -> dict[str, dict[str, float]]:
        """Return the surrogates that were set before the first step, by layer."""
        if not self.surrogates.is_file() and read_json(self.environment).get("has_surrogates"):
            raise ValueError(
                f"{self.surrogates} was removed, and the run's gradient depends on it: restore it, or train again in "
                "another folder"
            )
        return read_json(self.surrogates)

    def changed_imports(self, imports: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return the names of imported files whose contents have changed since the run started."""
        before = {row["name"]: row.get("sha256") for row in self.imports()}
        return [row["name"] for row in imports if before.get(row["name"], row.get("sha256")) != row.get("sha256")]

    # Writing and reading.

    def read_network(self, weights: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return state and metadata of the network of the ``"last"`` or the ``"best"`` epoch."""
        path = self.network(weights)
        if not path.is_file():
            self._check_is_run()
            raise FileNotFoundError(f"no {path.name} in {self}: the run is not finished; resume it")
        state, metadata = read_network(path)
        if not isinstance(metadata.get("data"), Mapping):
            raise ValueError(f"{path} does not describe the data that it was trained on")
        return state, metadata

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the result, which marks the run as finished."""
        write_text(self.result, json.dumps(dict(result), indent=2, allow_nan=False) + "\n")

    def imports(self) -> list[Row]:
        """Return what was imported when the run started: rows with ``name``, and ``version`` or ``sha256``."""
        rows = read_json(self.environment).get("imports", [])
        return [row for row in rows if isinstance(row, dict) and "name" in row] if isinstance(rows, list) else []

    def fingerprint(self) -> str:
        """Return the fingerprint of the run's data; an empty string if it has none."""
        fingerprint = read_json(self.environment).get("data")
        return fingerprint if isinstance(fingerprint, str) else ""

    def forget_fingerprint(self) -> None:
        """Let the run resume with data of other contents."""
        if self.is_run:
            origin = read_json(self.environment) | {"data": ""}
            write_text(self.environment, json.dumps(origin, indent=2) + "\n")

    def read_entries(self) -> dict[str, Any]:
        """Return the entries of the recipe, as they are in the file.

        Raises:
            FileNotFoundError: the folder holds no run.
            ValueError: the file is damaged, or the run is of a later version.
        """
        self._check_is_run()
        version = read_json(self.environment).get("format", 1)
        if not isinstance(version, int) or version > FORMAT:
            raise ValueError(f"{self} has format {version}, and this version reads up to {FORMAT}")
        try:
            entries = parse(self.recipe.read_bytes())
        except ValueError as error:
            raise ValueError(f"{self.recipe} is damaged: {error}") from None
        if not isinstance(entries, dict):
            raise ValueError(f"{self.recipe} is not a recipe: expected entries like 'training: ...'")
        return entries

    def _check_is_run(self) -> None:
        if not self.path.exists():
            raise FileNotFoundError(f"the folder {self} does not exist")
        if not self.is_run:
            raise FileNotFoundError(f"{self} holds no run (no {self.recipe.name})")

    def read_result(self) -> dict[str, Any]:
        """Return the result of a finished run.

        Raises:
            ValueError: the file is damaged, or of an earlier version.
        """
        result = read_json(self.result)
        for name, kind in _RESULT_TYPES.items():
            value = result.get(name)
            numbers = value.values() if isinstance(value, dict) else ()
            if not isinstance(value, kind) or not all(isinstance(number, int | float | None) for number in numbers):
                raise ValueError(
                    f"{self.result} is damaged or of an earlier version (wrong {name!r}); delete it and resume the run"
                )
        return result


def _with_current_names(section: str, entries: Any) -> Any:
    """Return a section of a recipe with the names that its components and options have now."""
    try:
        return write(read(KINDS[section], entries, section)) if section in KINDS else entries
    except ValueError:
        # The comparison with the new recipe names what differs.
        return entries
