"""Runs on other machines: the same commands, asked to stop by a ticket, started again where a worker dies.

Ray is started on this machine with two workers, and submitit with its executor of this machine.
"""

import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from shortcut_snn.cli import main
from shortcut_snn.cli._children import Children, Lost, Stopped, Work
from shortcut_snn.cli._launchers import Slurm, _SlurmJob

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="finds workers in /proc")
LOCAL = {"cluster": "local", "timeout_min": 5}

# A run as far as launchers go: it goes on where it was, and when it is asked to stop it saves and leaves.
RUN = """
import signal, sys, time
from pathlib import Path
from shortcut_snn.cli._children import follow_parent
folder = Path(sys.argv[1])
def leave(number, frame):
    (folder / "saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, leave)
follow_parent()
if (folder / "saved").exists():
    print("went on", flush=True)
    sys.exit(int(sys.argv[2]))
print("began", flush=True)
while True:
    time.sleep(0.01)
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    pytest.importorskip("submitit", reason="submitit is not installed (extra slurm)")
    monkeypatch.setattr(_SlurmJob, "late", 0.2)
    (tmp_path / "run.py").write_text(RUN)
    return Slurm(tmp_path / "jobs", LOCAL)


def wait_for(path: Path, text: str = "") -> None:
    deadline = time.monotonic() + 120
    while not path.is_file() or text not in path.read_text():
        assert time.monotonic() < deadline, path.read_text() if path.is_file() else path
        time.sleep(0.05)


def worker_of(word: str) -> int:
    """The process that started the one whose command line has a word."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode().split("\0")
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, UnicodeDecodeError):
            continue
        if word in words and "-P" in words:
            return parent
    raise AssertionError(f"nothing runs with {word}")


def start(slurm: Slurm, folder: Path, status: int = 0):
    return partial(slurm.start, [str(folder / "run.py"), str(folder), str(status)], folder / "log")


def in_thread(function):
    """Call it in a thread; return the thread and where what it returned or raised will be."""
    found = []

    def call():
        try:
            found.append(function())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    return thread, found


def test_a_dead_worker_of_submitit_is_noticed_and_its_run_saves_and_goes_on(slurm, tmp_path):
    thread, found = in_thread(lambda: Children().run(start(slurm, tmp_path)))
    wait_for(tmp_path / "log", "began")
    os.kill(worker_of(str(tmp_path / "run.py")), signal.SIGKILL)
    thread.join(60)
    assert isinstance(found[0], Lost)
    wait_for(tmp_path / "saved")
    # The status that comes back is the run's own.
    assert Children().run(start(slurm, tmp_path, 3)) == 3
    assert (tmp_path / "log").read_text() == "began\nwent on\n"


def test_a_run_of_submitit_is_asked_to_stop_and_saves(slurm, tmp_path):
    children = Children()
    thread, found = in_thread(lambda: children.run(start(slurm, tmp_path), (tmp_path / "enough").exists))
    wait_for(tmp_path / "log", "began")
    (tmp_path / "enough").touch()
    thread.join(60)
    assert isinstance(found[0], Stopped)
    assert (tmp_path / "saved").exists()
    assert not list((tmp_path / "jobs").glob("*.ticket"))


def test_a_new_command_stops_what_an_earlier_one_left_running(slurm, tmp_path):
    job = start(slurm, tmp_path)()
    wait_for(tmp_path / "log", "began")
    Slurm(tmp_path / "jobs", LOCAL)
    assert job.wait(None) == 143
    assert (tmp_path / "saved").exists()


def test_time_that_is_up_is_no_end(slurm, tmp_path):
    """What submitit does shortly before: it calls ``checkpoint``, and what this returns is run in another job."""
    (tmp_path / "ticket").touch()
    log = tmp_path / "log"
    work = Work((str(tmp_path / "run.py"), str(tmp_path), "0"), str(log), str(tmp_path / "ticket"), str(tmp_path), 1)
    thread, found = in_thread(work)
    wait_for(log, "began")
    while not hasattr(work, "_process"):
        # It may say so before the one that starts it knows.
        time.sleep(0.01)
    again = work.checkpoint()
    thread.join(60)
    assert found == [143]
    assert again.function() == 0
    assert log.read_text() == "began\nwent on\n"


def test_time_that_is_up_before_anything_began_is_no_end_either(slurm, tmp_path):
    work = Work(
        (str(tmp_path / "run.py"), str(tmp_path), "0"),
        str(tmp_path / "log"),
        str(tmp_path / "ticket"),
        str(tmp_path),
        1,
    )
    assert work.checkpoint().function.arguments == work.arguments


def test_a_machine_that_does_not_see_the_folder_says_so(tmp_path):
    work = Work(("-c", ""), str(tmp_path / "log"), str(tmp_path / "ticket"), str(tmp_path / "elsewhere"), 1)
    with pytest.raises(FileNotFoundError, match=r"does not see .*elsewhere"):
        work()


SLURM, RAY = ["--launcher", "slurm"], ["--launcher", "ray"]


@pytest.mark.parametrize(
    ("needs", "words", "said"),
    [
        ("os", ["--launch", "num_cpus=2"], "is for --launcher slurm or ray"),
        ("os", ["--jobs", "0"], "--jobs must be at least 1"),
        ("os", ["--launcher", "slrum"], "invalid choice"),
        ("submitit", [*SLURM, "--launch", "timeout_min=5"], "no SLURM on this machine"),
        ("submitit", [*SLURM, "--launch", "cluster=local"], "time limit in minutes"),
        ("submitit", [*SLURM, "--launch", "cluster=locl"], "it is slurm, or local"),
        ("submitit", [*SLURM, "--launch", "cluster=local", "--launch", "timeout_min=5", "--launch", "gpu=1"], "gpu"),
        ("ray", [*RAY, "--launch", "num_cpu=1"], "did you mean num_cpus?"),
    ],
    ids=range(8),
)
def test_what_makes_no_sense_is_refused_before_any_run(tmp_path, capsys, monkeypatch, needs, words, said):
    pytest.importorskip(needs, reason=f"{needs} is not installed")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["compare", "--out", str(tmp_path / "c"), "--methods", "vanilla", *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "c" / "vanilla").exists()


def test_a_job_of_slurm_is_what_the_options_say(tmp_path, monkeypatch):
    """As far as one goes without SLURM: what is submitted, and a submission that is refused."""
    pytest.importorskip("submitit", reason="submitit is not installed (extra slurm)")
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(f"#!/bin/sh\ncp $1 {tmp_path}/submitted\necho Submitted batch job 12\n")
    sbatch.chmod(0o755)
    (sbatch.parent / "srun").touch(0o755)
    monkeypatch.setenv("PATH", f"{sbatch.parent}:{os.environ['PATH']}")
    launcher = Slurm(tmp_path / "jobs", {"timeout_min": 240, "slurm_partition": "gpu", "cpus_per_task": 3})
    job = launcher.start(["-m", "shortcut_snn", "--version"], tmp_path / "log")
    said = (tmp_path / "submitted").read_text()
    for option in ("--job-name=shortcut-snn", "--partition=gpu", "--time=240", "--cpus-per-task=3", "--signal=USR2@"):
        assert f"#SBATCH {option}" in said
    assert launcher.threads == 3
    # The worker's own word counts, whatever the queue says.
    job.left.write_text("0")
    assert job.wait(None) == 0
    job.close()
    sbatch.write_text("#!/bin/sh\necho sbatch: error: invalid partition >&2\nexit 1\n")
    with pytest.raises(ValueError, match=r"SLURM takes no job: .*invalid partition"):
        launcher.start(["-c", ""], tmp_path / "log")


def test_extras_that_are_missing_are_named(tmp_path, capsys, monkeypatch):
    for name, module in (("slurm", "submitit"), ("ray", "ray")):
        monkeypatch.setitem(sys.modules, module, None)
        assert main(["compare", "--out", str(tmp_path / "c"), "--methods", "vanilla", "--launcher", name]) == 2
        assert f"pip install 'shortcut-snn[{name}]'" in capsys.readouterr().err


@pytest.mark.cluster
def test_a_comparison_in_ray_goes_on_where_a_worker_dies(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray = pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
    command = ["compare", "--out", str(tmp_path / "c"), "--methods", "vanilla", "--seeds", "2", "--jobs", "2", *RAY]
    command += ["--data.train_limit", "150", "--data.test_limit", "100", "--data.batch_size", "50"]
    command += ["--network.kind", "resnet8", "--network.width", "4", "--network.time_steps", "2"]
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        thread, found = in_thread(lambda: main([*command, "--training.epochs", "8"]))
        run = tmp_path / "c" / "vanilla" / "seed0"
        wait_for(run.with_suffix(".log"), "epoch 2/8")
        os.kill(worker_of(str(run)), signal.SIGKILL)
        thread.join(300)
    finally:
        ray.shutdown()
    assert found == [0]
    said = capsys.readouterr().out
    assert "seed0: its worker died (WorkerCrashedError); it goes on with another" in said
    assert said.count(": accuracy") == 2
    epochs = [line.split("/")[0] for line in run.with_suffix(".log").read_text().splitlines() if "/8: loss" in line]
    # Nothing was lost, and nothing trained twice.
    assert epochs == [f"epoch {epoch + 1}" for epoch in range(8)]
