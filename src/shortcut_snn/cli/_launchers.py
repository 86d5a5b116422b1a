"""Launchers: where the runs of a comparison or a search execute.

Every run is the same child command, on this machine, in a job of SLURM (through submitit) or in a task of Ray.
"""

import argparse
import logging
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from ..components import suggestion
from ..recipes import parse_options
from ..training import RunFolder
from ._children import ChildProcess, RemoteCommand
from ._parser import UsageError, at_least_one

RAY_OPTIONS = ("address", "num_cpus", "num_gpus", "memory", "resources")


class WorkerLost(Exception):
    """The worker of a job died, and the job with it: the job can be started again."""


class Job(Protocol):
    """A command that runs here or on another machine."""

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while the command is running.

        Raises:
            WorkerLost: what ran the command died.
            ValueError: the command could not be started.
        """

    def stop(self) -> None:
        """Ask the command to save and stop."""

    def kill(self) -> None:
        """End the command at once."""


class Launcher(Protocol):
    """Something that starts commands."""

    def start(self, arguments: Sequence[str], log: Path) -> Job:
        """Start Python with arguments and append its output to a file."""


class Local:
    """Start child processes of this machine, which share its CPU threads.

    Args:
        jobs: how many run at the same time.
    """

    def __init__(self, jobs: int = 1) -> None:
        self.threads = max(1, (os.cpu_count() or 1) // jobs)

    def start(self, arguments: Sequence[str], log: Path) -> Job:
        """Start a child process."""
        return ChildProcess(arguments, log, self.threads)


class Slurm:
    """Start each command as a job of SLURM, through submitit.

    Jobs that an earlier command left in the folder are cancelled: SLURM sends them SIGTERM, and their runs save.

    Args:
        folder: takes submitit's files.
        options: of submitit's executor, such as ``timeout_min``; ``cluster`` is ``"slurm"``, or ``"local"`` for the
            executor that tries it on this machine.

    Raises:
        UsageError: submitit is missing or refuses the options, the time limit is missing, or this machine has no SLURM.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        try:
            import submitit
        except ModuleNotFoundError:
            raise UsageError("--launcher slurm needs submitit: pip install 'shortcut-snn[slurm]'") from None
        parameters: dict[str, Any] = {"slurm_job_name": "shortcut-snn", "cpus_per_task": 1} | dict(options)
        cluster = parameters.pop("cluster", "slurm")
        if cluster not in ("slurm", "local"):
            raise UsageError(f"--launch cluster={cluster}: use slurm, or local to try it on this machine")
        if cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
            raise UsageError("this machine has no SLURM (no sbatch, srun): run the command on a login node")
        if not isinstance(parameters.get("timeout_min"), int):
            raise UsageError("--launcher slurm needs a job's time limit in minutes: add --launch timeout_min=240")
        if cluster == "slurm":
            for submitted in folder.glob("*/*_submitted.pkl"):
                job = submitted.name.removesuffix("_submitted.pkl")
                if not list(submitted.parent.glob(f"{job}_*_result.pkl")):
                    submitit.SlurmJob(submitted.parent, job).cancel(check=False)
        self.threads = int(parameters["cpus_per_task"])
        # A new folder for every command: submitit reads pickles, so it must read none but its own.
        self.executor = submitit.AutoExecutor(folder.absolute() / secrets.token_hex(4), cluster=cluster)
        try:
            self.executor.update_parameters(**parameters)
        except (NameError, ValueError, TypeError) as error:
            raise UsageError(f"--launch: submitit refuses it: {_one_line(error)}") from None

    def start(self, arguments: Sequence[str], log: Path) -> Job:
        """Submit a job.

        Raises:
            ValueError: SLURM refuses the job.
        """
        from submitit.core.utils import FailedJobError

        command = RemoteCommand(tuple(arguments), str(log.absolute()), os.getcwd(), self.threads)
        try:
            return _SlurmJob(self.executor.submit(command))
        except FailedJobError as error:
            raise ValueError(f"SLURM refuses the job: {_one_line(error)}") from None


class _SlurmJob:
    def __init__(self, job: Any) -> None:
        self.job = job

    def poll(self) -> int | None:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        if not self.job.done():
            return None
        try:
            status: int = self.job.result()
        except UncompletedJobError:
            raise WorkerLost(f"job {self.job.job_id} ended as {self.job.state} (see {self.job.paths.folder})") from None
        except FailedJobError as error:
            raise ValueError(_one_line(error)) from None
        return status

    def stop(self) -> None:
        self.job.cancel(check=False)

    kill = stop


class Ray:
    """Start each command as a task of a Ray cluster.

    Args:
        options: ``address`` of the cluster (by default the one that this machine belongs to, else a new one on this
            machine), and what a run needs: ``num_cpus``, ``num_gpus``, ``memory``, ``resources``.

    Raises:
        UsageError: Ray is missing, an option is unknown, or no cluster answers at the address.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        try:
            import ray
        except ModuleNotFoundError:
            raise UsageError("--launcher ray needs Ray: pip install 'shortcut-snn[ray]'") from None
        for name in options:
            if name not in RAY_OPTIONS:
                raise UsageError(f"--launch {name}{suggestion(name, RAY_OPTIONS)}: Ray takes {', '.join(RAY_OPTIONS)}")
        needs: dict[str, Any] = {"num_cpus": 1} | dict(options)
        address = needs.pop("address", None)
        if not ray.is_initialized():
            try:
                ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise UsageError(f"no Ray cluster at {address}: {_one_line(error)}") from None
        self.ray, self.threads = ray, max(1, int(needs["num_cpus"]))
        # No retries by Ray: the scheduler retries, and reports it.
        self.task = ray.remote(max_retries=0, **needs)(_call)

    def start(self, arguments: Sequence[str], log: Path) -> Job:
        """Submit a task."""
        command = RemoteCommand(tuple(arguments), str(log.absolute()), os.getcwd(), self.threads)
        return _RayJob(self.ray, self.task.remote(command))


def _call(command: RemoteCommand) -> int:
    return command()


class _RayJob:
    def __init__(self, ray: Any, task: Any) -> None:
        self.ray, self.task = ray, task

    def poll(self) -> int | None:
        if not self.ray.wait([self.task], timeout=0)[0]:
            return None
        try:
            status: int = self.ray.get(self.task)
        except self.ray.exceptions.TaskCancelledError:
            return 1
        except self.ray.exceptions.RayTaskError as error:
            raise ValueError(_one_line(error.cause)) from None
        except self.ray.exceptions.RayError as error:
            raise WorkerLost(f"its worker died ({type(error).__name__})") from None
        return status

    def stop(self) -> None:
        self.ray.cancel(self.task)

    def kill(self) -> None:
        self.ray.cancel(self.task, force=True)


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[-300:]


@contextmanager
def launching(options: argparse.Namespace, folder: str | Path) -> Iterator[Launcher]:
    """Give the launcher that a command line chooses.

    Args:
        options: of the command line.
        folder: of the comparison or the search.

    Raises:
        UsageError: the options make no sense.
        ValueError: another command is using the folder for its jobs.
    """
    at_least_one(options, "jobs")
    if options.launcher == "local":
        if options.launch:
            raise UsageError(f"--launch {options.launch[0]} needs --launcher slurm or ray")
        yield Local(options.jobs)
        return
    launch, jobs = parse_options(options.launch), Path(folder) / "jobs"
    with RunFolder(jobs).locked():
        yield Slurm(jobs, launch) if options.launcher == "slurm" else Ray(launch)
