"""Runs in jobs of SLURM, through submitit's executor of this machine: they are stopped, and resumed by another job."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from shortcut_snn.cli import main
from shortcut_snn.cli._executors import RemoteCommand, Slurm

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="finds workers in /proc")

LOCAL = ["--launcher", "slurm", "--launch", "cluster=local", "--launch", "timeout_min=5"]
# A run, as far as launchers are concerned: it saves when it is stopped, and resumes.
RUN = """
import signal, sys, time
from pathlib import Path
from shortcut_snn.cli._executors import follow_parent
folder = Path(sys.argv[1])
def leave(number, frame):
    (folder / "saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, leave)
follow_parent()
if (folder / "saved").exists():
    print("resumed", flush=True)
    sys.exit(3)
print("began", flush=True)
while True:
    time.sleep(0.01)
"""


@pytest.fixture
def slurm(tmp_path):
    pytest.importorskip("submitit", reason="submitit is not installed (extra slurm)")
    (tmp_path / "run.py").write_text(RUN)
    return Slurm(tmp_path / "jobs", {"cluster": "local", "timeout_min": 5})


def wait_for(path: Path, text: str = "") -> None:
    deadline = time.monotonic() + 120
    while not path.is_file() or text not in path.read_text():
        assert time.monotonic() < deadline, path.read_text() if path.is_file() else path
        time.sleep(0.05)


def wait(job) -> int:
    while (status := job.poll()) is None:
        time.sleep(0.05)
    return status


def worker_of(word: str) -> int:
    """Return the process that started the one whose command line has a word."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode().split("\0")
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, UnicodeDecodeError):
            continue
        if word in words and "-P" in words:
            return parent
    raise AssertionError(f"nothing runs with {word}")


def start(slurm: Slurm, folder: Path):
    return slurm.submit([str(folder / "run.py"), str(folder)], folder / "run.log")


def test_a_run_saves_if_its_worker_dies(slurm, tmp_path, monkeypatch):
    job = start(slurm, tmp_path)
    monkeypatch.setattr(job.job, "_results_timeout_s", 0)
    wait_for(tmp_path / "run.log", "began")
    os.kill(worker_of(str(tmp_path / "run.py")), signal.SIGKILL)
    with pytest.raises(ValueError, match="SLURM"):
        wait(job)
    wait_for(tmp_path / "saved")


def test_a_stopped_run_saves(slurm, tmp_path):
    job = start(slurm, tmp_path)
    wait_for(tmp_path / "run.log", "began")
    job.stop()
    wait_for(tmp_path / "saved")


def test_a_run_saves_before_its_time_is_up(slurm, tmp_path):
    """Submitit calls ``checkpoint`` then, and runs what it returns in another job."""
    command = RemoteCommand(
        (str(tmp_path / "run.py"), str(tmp_path)), str(tmp_path / "run.log"), str(tmp_path), threads=1
    )
    assert command.checkpoint().function == command
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(command()))
    thread.start()
    wait_for(tmp_path / "run.log", "began")
    while not hasattr(command, "_child"):
        # The child may write before the thread that started it continues.
        time.sleep(0.01)
    again = command.checkpoint()
    thread.join(60)
    assert statuses == [143]
    assert again.function() == 3
    assert (tmp_path / "run.log").read_text() == "began\nresumed\n"


@pytest.mark.parametrize(
    ("words", "keyword"),
    [
        (["--launch", "timeout_min=5"], "--launcher"),
        (["--jobs", "0"], "--jobs"),
        (["--launcher", "slurm", "--launch", "timeout_min=5"], "srun"),
        (["--launcher", "slurm", "--launch", "cluster=local"], "timeout_min"),
        (["--launcher", "slurm", "--launch", "cluster=lsf", "--launch", "timeout_min=5"], "lsf"),
        ([*LOCAL, "--launch", "gpu=1"], "gpu"),
    ],
)
def test_wrong_options_are_refused_before_any_run(tmp_path, capsys, monkeypatch, words, keyword):
    pytest.importorskip("submitit", reason="submitit is not installed (extra slurm)")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["compare", "--out", str(tmp_path / "c"), "--methods", "vanilla", *words]) == 2
    assert keyword in capsys.readouterr().err
    assert not (tmp_path / "c" / "vanilla").exists()


def test_slurm_gets_the_options(tmp_path, monkeypatch):
    """Without SLURM: what is submitted, and a submission that is refused."""
    pytest.importorskip("submitit", reason="submitit is not installed (extra slurm)")
    programs = {"sbatch": f"cp $1 {tmp_path}/submitted\necho Submitted batch job 12", "srun": ""}
    (tmp_path / "bin").mkdir()
    for name, script in programs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    slurm = Slurm(tmp_path / "jobs", {"timeout_min": 240, "slurm_partition": "gpu", "cpus_per_task": 3})
    slurm.submit(["-m", "shortcut_snn", "--version"], tmp_path / "log")
    submitted = (tmp_path / "submitted").read_text()
    for option in ("--job-name=shortcut-snn", "--partition=gpu", "--time=240", "--cpus-per-task=3", "--signal=USR2@"):
        assert f"#SBATCH {option}" in submitted
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\necho sbatch: error: invalid partition >&2\nexit 1\n")
    with pytest.raises(ValueError, match="invalid partition"):
        slurm.submit(["-c", ""], tmp_path / "log")


def test_a_missing_extra_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert main(["compare", "--out", str(tmp_path / "c"), "--methods", "vanilla", "--launcher", "slurm"]) == 1
    assert "shortcut-snn[slurm]" in capsys.readouterr().err
