"""The folder of a run: what its files are called, who may write to it, how they are written and read."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from .. import __version__
from ..deploy import read_network, save_network
from ..diagnosis.calibration import set_widths
from ..files import make_folder, read_json, refuse_others, remove_strays, write_csv
from ..yaml_text import as_yaml
from .checkpoint import read_checkpoint
from .checksums import NAME, check, write_sealed
from .environment import environment
from .lock import hold, let_go
from .same import check_same

Row = dict[str, Any]
FORMAT = 2
"""Of a run's folder: 1 was without hashes and without a number."""
_RESULT: dict[str, Any] = {
    "metric": str,
    "test_last": dict | None,
    "test_best": dict | None,
    "validation_last": dict | None,
    "validation_best": dict | None,
    "chance": int | float | None,
    "gradient_ratio_first_epoch": int | float | None,
    "gradient_ratio_last_epoch": int | float | None,
    "seconds_per_epoch": int | float,
}
"""What others read of a result."""


class RunFolder:
    """A run's folder.

    ``recipe.yaml``, ``environment.json``, ``metrics.csv``, ``gradients.csv``, ``layers.csv``, ``timing.csv`` (epochs
    count from 1), ``energy.csv``, ``confusion.csv`` of a classification's test data, pictures, ``checkpoint.ckpt``, the
    networks that ship (``network.safetensors`` after the last epoch, ``best.safetensors`` of the best epoch on
    validation data) and ``result.json``; of recordings and images in files, ``split.txt`` says which were for training,
    validation and test; ``surrogates.json`` holds the widths of calibrated surrogates, and ``checksums.json`` hashes of
    what a resumed run reads.

    Args:
        path: of the folder.
        complete: fills in what a recipe of an earlier version does not say; by default nothing is.

    Example:
        >>> RunFolder("runs/digits").network("last").name
        'network.safetensors'
    """

    def __init__(
        self, path: str | Path, complete: Callable[[dict[str, Any]], dict[str, Any]] = lambda entries: entries
    ) -> None:
        self.path, self.complete = Path(path), complete
        self._said = str(self.path)
        self._lock = ExitStack()

    def __str__(self) -> str:
        """Return the path as it was given."""
        return self._said

    def anchor(self) -> None:
        """Stay where the path leads now, whatever becomes of the current folder."""
        self.path = self.path.absolute()

    def move(self, path: Path) -> None:
        """Go on in another folder."""
        self.path, self._said = path, str(path)

    def __truediv__(self, name: str) -> Path:
        """Return the path of a file in it."""
        return self.path / name

    @property
    def recipe(self) -> Path:
        """The recipe: a folder that has one holds a run."""
        return self / "recipe.yaml"

    @property
    def checkpoint(self) -> Path:
        """Where the run can go on."""
        return self / "checkpoint.ckpt"

    @property
    def result(self) -> Path:
        """What came of it: a folder that has one is finished."""
        return self / "result.json"

    @property
    def split(self) -> Path:
        """Which recordings are where."""
        return self / "split.txt"

    @property
    def widths(self) -> Path:
        """Calibrated surrogate widths by layer."""
        return self / "surrogates.json"

    @property
    def environment(self) -> Path:
        """Versions, machine, what was imported."""
        return self / "environment.json"

    def table(self, name: str) -> Path:
        """Return the path of a table, as ``"metrics"``."""
        return self / f"{name}.csv"

    def network(self, weights: str) -> Path:
        """Return the path of the network after the ``"last"`` or the ``"best"`` epoch."""
        return self / {"last": "network.safetensors", "best": "best.safetensors"}[weights]

    @property
    def is_run(self) -> bool:
        """Whether it holds a run."""
        return self.recipe.is_file()

    @property
    def is_finished(self) -> bool:
        """Whether the run that it holds is over."""
        return self.result.is_file()

    # Who may write.

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder, made if need be, against other processes that ask for it; the system frees it.

        Where folders cannot be held (Windows, some network disks) nothing is.

        Raises:
            ValueError: another process holds it.
        """
        with self._lock:
            self.hold()
            remove_strays(self.path)
            yield

    def hold(self) -> None:
        """Hold the folder that is there now until :meth:`locked` ends; it may be another than at its start.

        Raises:
            ValueError: another process holds it.
        """
        make_folder(self.path)
        self._lock.callback(let_go, hold(self.path, f"another process is training in {self}"))

    def start_from(self, entries: Mapping[str, Any], resume: bool) -> Path | None:
        """Return the checkpoint to go on from, None to start anew.

        Args:
            entries: the recipe of the run that is to be.
            resume: whether a run that is there may go on.

        Raises:
            FileExistsError: the folder holds a run already and ``resume`` is false, or something else; a resumed run
                takes what is left of one that was killed before its recipe was written.
            ValueError: the run there is another one, or its checkpoint is damaged.
        """
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"{self} is a file; name a folder for the run")
        if not self.is_run:
            refuse_others(self.path, f"{self} is not empty and holds no run", self._begun() if resume else ())
            return None
        if not self.checkpoint.is_file() and not self.is_finished:
            # It failed before its first checkpoint: there is nothing to lose, and its recipe may be at fault.
            return None
        if not resume:
            raise FileExistsError(f"{self} holds a run already; add --resume to go on with it, or name another folder")
        self.check_whole()
        self.check_same(entries)
        return self.checkpoint if self.checkpoint.is_file() else None

    def _begun(self) -> set[str]:
        """Return the names of what a run may leave that is killed before its recipe is written."""
        first = {path.name for path in (self.environment, self.split, self.widths, self.recipe)}
        known = set(read_json(self / NAME))
        # Files without a hash are not of a run, and hashes of others are not of the beginning of one. MLflow's database
        # is made before anything else.
        return {"mlflow.db", "mlflow.db-journal"} | ({NAME} | known if known <= first else set())

    def check_whole(self) -> None:
        """Make sure that all that a resumed run reads is as it was written, before anything is touched.

        Raises:
            ValueError: a file is damaged, missing, or was changed; the message names it.
        """
        self.check_format()
        for path in (self.recipe, self.environment, self.split, self.widths):
            check(path)
        # Who deletes one of these wants it done again.
        for path in (self.result, self.checkpoint):
            if path.is_file():
                check(path)
        if self.is_finished or not self.checkpoint.is_file():
            return
        history = read_checkpoint(self.checkpoint)["callbacks"].get("History")
        best = self.network("best")
        if best.is_file():
            read_network(best)
        elif isinstance(history, dict) and history.get("best_epoch") != -1:
            raise ValueError(
                f"{best}, the network of the run's best epoch so far, is missing; put it back from a copy, or start "
                "the run anew in another folder"
            )

    def check_format(self) -> None:
        """Refuse a folder of a later version.

        Raises:
            ValueError: the message names the version.
        """
        about = read_json(self.environment)
        number = about.get("format", 1)
        if not isinstance(number, int) or number > FORMAT:
            raise ValueError(
                f"the run in {self} is of format {number!r}, written by shortcut-snn {about.get('shortcut_snn')}; this "
                f"version ({__version__}) knows formats up to {FORMAT}: install that version or a later one"
            )

    def made_by(self) -> str:
        """Return who wrote the run, where that is another version than this, as the end of a sentence."""
        try:
            version = read_json(self.environment).get("shortcut_snn")
        except ValueError:
            version = None
        if version == __version__:
            return ""
        return f" (the run was made by shortcut-snn {version or 'of an unknown version'}; this is {__version__})"

    def check_same(self, entries: Mapping[str, Any]) -> None:
        """Refuse a recipe that is not, but for where it runs, that of the run.

        Raises:
            ValueError: the message names what differs.
        """
        check_same(self.complete(self.read_entries()), entries, f"the run in {self}", self.recipe)

    def check_split(self, now: str) -> None:
        """Refuse data of which samples are in other parts than the run had them in.

        Raises:
            ValueError: they are.
        """
        before = self.split.read_text(encoding="utf-8") if self.split.is_file() else ""
        if before and now and before != now:
            raise ValueError(
                f"the samples or their split are no longer those of the run, which are listed in {self.split}; put "
                "them back (for a damaged file another of its class under its name), or name another folder"
            )

    # Writing.

    def changed_imports(self, imports: Sequence[Row]) -> list[str]:
        """Return the names of imported files that are no longer those with which the run was started."""
        before = {each["name"]: each.get("sha256") for each in self.imports()}
        return [
            each["name"] for each in imports if each["name"] in before and before[each["name"]] != each.get("sha256")
        ]

    def tell_changed(self, imports: Sequence[Row], tell: Callable[[str], None]) -> None:
        """Say which imported files are no longer those with which the run was started."""
        if changed := self.changed_imports(imports):
            tell(f"{', '.join(changed)} is no longer the file that the run was started with")

    def tell_finished(self, imports: Sequence[Row], tell: Callable[[str], None]) -> None:
        """Say that there is nothing to go on with."""
        tell(f"{self} is finished already")
        self.tell_changed(imports, tell)

    def begin(
        self,
        entries: Mapping[str, Any],
        split: str,
        widths: Mapping[str, float],
        imports: Sequence[Row],
        about: Mapping[str, Any],
    ) -> None:
        """Write what is known before the first step."""
        write_sealed(
            self.environment, json.dumps({"format": FORMAT} | environment(imports) | dict(about), indent=2) + "\n"
        )
        if split:
            write_sealed(self.split, split)
        if widths:
            write_sealed(self.widths, json.dumps(dict(widths), indent=2) + "\n")
        # Last: a folder with a recipe is a run.
        write_sealed(self.recipe, as_yaml(entries))

    def save_network(self, network: nn.Module, weights: str, about: Mapping[str, Any]) -> None:
        """Write a network that ships."""
        save_network(network, self.network(weights), about)

    def write_rows(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a table."""
        write_csv(self.table(name), rows)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write what came of the run."""
        write_sealed(self.result, json.dumps(dict(result), indent=2) + "\n")

    # Reading.

    def imports(self) -> list[Row]:
        """Return what was imported when the run was started: name, and version or hash."""
        found = read_json(self.environment).get("imports", [])
        return [each for each in found if isinstance(each, dict) and "name" in each] if isinstance(found, list) else []

    def fingerprint(self) -> str:
        """Return the fingerprint of the run's data; an empty string if it has none."""
        fingerprint = read_json(self.environment).get("data")
        return fingerprint if isinstance(fingerprint, str) else ""

    def read_entries(self) -> dict[str, Any]:
        """Return the recipe's entries as they stand in the file.

        Raises:
            FileNotFoundError: no run there.
            ValueError: the file is damaged, or of a later version.
        """
        if not self.is_run:
            raise FileNotFoundError(f"{self} holds no run (no {self.recipe.name})")
        self.check_format()
        try:
            text = self.recipe.read_text(encoding="utf-8")
            # What stands in several places at once can be larger than any memory, or without an end.
            if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
                raise ValueError("references (*name) are not taken here")
            entries = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise ValueError(f"{self.recipe} is damaged: {' '.join(str(error).split())}") from None
        if not isinstance(entries, dict):
            raise ValueError(f"{self.recipe} is not a recipe: expected entries like 'training: ...'")
        return entries

    def read_result(self) -> dict[str, Any]:
        """Return what came of a finished run.

        Raises:
            ValueError: the file is damaged, or of an earlier version.
        """
        result = read_json(self.result)
        for name, kind in _RESULT.items():
            found = result.get(name)
            numbers = found.values() if isinstance(found, dict) else ()
            if not isinstance(found, kind) or not all(isinstance(number, int | float) for number in numbers):
                raise ValueError(
                    f"{self.result} is damaged, or of an earlier version ({name!r} is missing or of another kind); "
                    f"delete it and resume the run{self.made_by()}"
                )
        return result

    def set_widths(self, network: nn.Module) -> dict[str, float]:
        """Give a network the surrogate widths that the run was started with, and return them.

        Raises:
            ValueError: their file is missing or damaged.
        """
        try:
            widths = json.loads(self.widths.read_text(encoding="utf-8"))
            set_widths(network, widths)
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            raise ValueError(
                f"{self.widths}, which holds the calibrated surrogate widths of the run, is missing or damaged; put it "
                "back, or start the run anew in another folder"
            ) from None
        found: dict[str, float] = widths
        return found
