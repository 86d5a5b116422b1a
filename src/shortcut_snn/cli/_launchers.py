"""Where the runs of a comparison or a search are: here, or handed to SLURM (by submitit) or to Ray.

Every run is the same child command whatever launches it, in a folder that all machines see.
"""

import argparse
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ..components import suggestion
from ..recipes.entries import said, write_recipe
from ..recipes.recipe import Recipe
from ..training import RunFolder
from ._children import PATIENCE, Children, Job, Lost, Process, Work, why
from ._parser import UsageError, at_least_one

NAMES = ("local", "slurm", "ray")
TRIES = 4
"""How often a run is started whose worker dies."""


class Launcher(Protocol):
    """What starts a run."""

    patience: float
    """Seconds to wait for a run's folder that another process still holds."""

    def start(self, arguments: Sequence[str], log: Path) -> Job:
        """Start Python with arguments; what it writes goes to the end of a log."""


class Local:
    """Processes of this machine, which share its CPU threads.

    Args:
        jobs: how many there are at the same time.
    """

    patience = 0.0

    def __init__(self, jobs: int = 1) -> None:
        self.threads = max(1, (os.cpu_count() or 1) // jobs)

    def start(self, arguments: Sequence[str], log: Path) -> Job:
        """Start a process."""
        with log.open("ab") as output:
            return Process(arguments, output, os.environ | {"OMP_NUM_THREADS": str(self.threads)})


class Remote:
    """What launchers of other machines share: a folder of tickets, on which jobs of earlier commands end.

    Args:
        folder: for the tickets.
        threads: CPU threads of a run.
    """

    patience = PATIENCE

    def __init__(self, folder: Path, threads: int) -> None:
        self.folder, self.threads = folder.absolute(), threads
        self.folder.mkdir(parents=True, exist_ok=True)
        # What an earlier command that was killed has left running, or waiting, stops.
        for ticket in self.folder.glob("*.ticket"):
            ticket.unlink(missing_ok=True)

    def work(self, arguments: Sequence[str], log: Path, status: bool) -> Work:
        """Return what a worker does, with its ticket; with ``status`` it leaves its exit status in a file."""
        ticket = self.folder / f"{secrets.token_hex(8)}.ticket"
        ticket.touch()
        left = str(ticket.with_suffix(".status")) if status else None
        return Work(tuple(arguments), str(log.absolute()), str(ticket), os.getcwd(), self.threads, left)


class Slurm(Remote):
    """Jobs of SLURM, one a run.

    Args:
        folder: for tickets, and submitit's files.
        options: of submitit's executor, such as ``timeout_min``; ``cluster`` is ``"slurm"``, or ``"local"`` for its
            executor of this machine.

    Raises:
        UsageError: options that there are not, no time limit, or no SLURM here.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        try:
            import submitit
        except ModuleNotFoundError:
            raise UsageError("--launcher slurm needs submitit: pip install 'shortcut-snn[slurm]'") from None
        own: dict[str, Any] = {"slurm_job_name": "shortcut-snn", "cpus_per_task": 1} | dict(options)
        cluster = own.pop("cluster", "slurm")
        if cluster not in ("slurm", "local"):
            raise UsageError(f"--launch cluster={cluster}: it is slurm, or local to try it on this machine")
        if cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
            raise UsageError("there is no SLURM on this machine (no sbatch, srun): start the command on a login node")
        if not isinstance(own.get("timeout_min"), int):
            raise UsageError("--launcher slurm needs a job's time limit in minutes: --launch timeout_min=240")
        super().__init__(folder, int(own["cpus_per_task"]))
        # A fresh folder: submitit reads pickles, and none but its own.
        self.executor = submitit.AutoExecutor(self.folder / secrets.token_hex(4), cluster=cluster)
        try:
            self.executor.update_parameters(**own)
        except (NameError, ValueError, TypeError) as error:
            raise UsageError(f"--launch: submitit says {' '.join(str(error).split())[:300]}") from None

    def start(self, arguments: Sequence[str], log: Path) -> Job:
        """Submit a job.

        Raises:
            ValueError: SLURM refuses it.
        """
        from submitit.core.utils import FailedJobError

        work = self.work(arguments, log, status=True)
        try:
            return _SlurmJob(self.executor.submit(work), Path(work.ticket))
        except FailedJobError as error:
            raise ValueError(f"SLURM takes no job: {' '.join(str(error).split())[-300:]}") from None


class _SlurmJob:
    # Files of another machine may take so many seconds to be seen here.
    late = 10.0

    def __init__(self, job: Any, ticket: Path) -> None:
        self.job, self.ticket, self.left = job, ticket, ticket.with_suffix(".status")

    def wait(self, seconds: float | None) -> int | None:
        end = None if seconds is None else time.monotonic() + seconds
        while end is None or time.monotonic() < end:
            # Asked first: what has ended has written its status before.
            over = self.job.done()
            if (status := self._status()) is not None:
                return status
            if over:
                for _ in range(int(10 * self.late)):
                    time.sleep(0.1)
                    if (status := self._status()) is not None:
                        return status
                raise Lost(f"job {self.job.job_id} ended as {self.job.state} (its files: {self.job.paths.folder})")
            time.sleep(0.5)
        return None

    def _status(self) -> int | None:
        with suppress(FileNotFoundError):
            return int(self.left.read_text(encoding="utf-8"))
        return None

    def ask(self) -> None:
        self.ticket.unlink(missing_ok=True)

    def kill(self) -> None:
        self.ask()
        self.job.cancel(check=False)

    def close(self) -> None:
        self.ticket.unlink(missing_ok=True)
        self.left.unlink(missing_ok=True)


class Ray(Remote):
    """Tasks of a Ray cluster, one a run.

    Args:
        folder: for tickets.
        options: ``address`` of the cluster (by default the one that this machine is in, else one is started here), and
            what a run takes: ``num_cpus``, ``num_gpus``, ``memory``, ``resources``.

    Raises:
        UsageError: options that there are not, or no cluster.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        try:
            import ray
        except ModuleNotFoundError:
            raise UsageError("--launcher ray needs Ray: pip install 'shortcut-snn[ray]'") from None
        known = ("address", "num_cpus", "num_gpus", "memory", "resources")
        for name in options:
            if name not in known:
                raise UsageError(f"--launch {name}{suggestion(name, known)}: Ray takes {', '.join(known)}")
        own: dict[str, Any] = {"num_cpus": 1} | dict(options)
        address = own.pop("address", None)
        super().__init__(folder, max(1, int(own["num_cpus"])))
        self.ray = ray
        if not ray.is_initialized():
            try:
                ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise UsageError(f"no Ray cluster at {address}: {' '.join(str(error).split())[:300]}") from None
        # What has died is started again here, where a person hears of it and its folder is waited for.
        self.task = ray.remote(max_retries=0, **own)(_call)

    def start(self, arguments: Sequence[str], log: Path) -> Job:
        """Hand a task to Ray."""
        work = self.work(arguments, log, status=False)
        return _RayJob(self.ray, self.task.remote(work), Path(work.ticket))


def _call(work: Work) -> int:
    return work()


class _RayJob:
    def __init__(self, ray: Any, task: Any, ticket: Path) -> None:
        self.ray, self.task, self.ticket = ray, task, ticket

    def wait(self, seconds: float | None) -> int | None:
        if not self.ray.wait([self.task], timeout=seconds)[0]:
            return None
        try:
            status: int = self.ray.get(self.task)
        except self.ray.exceptions.RayTaskError as error:
            raise ValueError(str(error.cause)) from None
        except self.ray.exceptions.RayError as error:
            raise Lost(f"its worker died ({type(error).__name__})") from None
        return status

    def ask(self) -> None:
        self.ticket.unlink(missing_ok=True)

    def kill(self) -> None:
        self.ask()
        self.ray.cancel(self.task, force=True)

    def close(self) -> None:
        self.ticket.unlink(missing_ok=True)


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Add what says where runs are to a command's options."""
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time; on one machine they share its CPU")
    parser.add_argument(
        "--launcher", default="local", choices=NAMES,
        help="where the runs are: on this machine, as jobs of SLURM (submitit), or in a Ray cluster",
    )  # fmt: skip
    parser.add_argument(
        "--launch", action="append", default=[], metavar="KEY=VALUE",
        help="an option of the launcher; slurm: those of submitit, as in timeout_min=240 slurm_partition=gpu; ray: "
        "address, num_cpus, num_gpus, memory, resources. May be given several times",
    )  # fmt: skip


@contextmanager
def launching(options: argparse.Namespace, folder: str | Path) -> Iterator[Launcher]:
    """Give what a command line says that launches runs, within a block.

    Args:
        options: of the command line.
        folder: of the comparison or the search.

    Raises:
        UsageError: what is said makes no sense.
        ValueError: another command has its jobs there now.
    """
    at_least_one(options, "jobs")
    if options.launcher == "local":
        if options.launch:
            raise UsageError(f"--launch {options.launch[0]} is for --launcher slurm or ray")
        yield Local(options.jobs)
        return
    own = said(options.launch)
    jobs = Path(folder) / "jobs"
    with RunFolder(jobs).locked():
        yield (Slurm if options.launcher == "slurm" else Ray)(jobs, own)


def train(
    children: Children,
    launcher: Launcher,
    recipe: Recipe,
    place: RunFolder,
    imports: Sequence[str] = (),
    enough: Callable[[], bool] | None = None,
    tell: Callable[[str], None] = print,
) -> None:
    """Train in a process of its own, or go on; where a worker dies the run goes on with another.

    Args:
        children: what asks it to stop.
        launcher: what starts it.
        recipe: what to do.
        place: where the run goes; its recipe and its log go beside it.
        imports: files and modules that the run imports.
        enough: see :meth:`.Children.run`.
        tell: takes lines for a person.

    Raises:
        Stopped: it was asked to stop.
        ValueError: training failed.
    """
    config, log = (Path(f"{place.path.absolute()}{end}") for end in (".yaml", ".log"))
    write_recipe(recipe, config)
    command = ["-m", "shortcut_snn", "train", "--config", str(config), "--out", str(place.path.absolute()), "--resume"]
    command += [word for name in imports for word in ("--import", name)]
    status = None
    for left in reversed(range(TRIES)):
        _await(place, launcher.patience)
        try:
            status = children.run(partial(launcher.start, command, log), enough)
            break
        except Lost as lost:
            if not left:
                raise ValueError(f"{lost}; {TRIES} times") from None
            tell(f"{place}: {lost}; it goes on with another")
    if status:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise ValueError(why(status, lines))


def _await(place: RunFolder, seconds: float) -> None:
    """Wait while another process still trains in a folder."""
    deadline = time.monotonic() + seconds
    while place.path.is_dir() and time.monotonic() < deadline:
        try:
            with place.locked():
                return
        except ValueError:
            time.sleep(0.2)
