"""Runs in processes of their own: they are stopped once, waited for, and never left training."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shortcut_snn.cli._run_pool import RunPool, failure_reason, start_python
from shortcut_snn.cli.train import PARENT
from shortcut_snn.training import RunFolder, read_rows

from ..training.small import train

# A run, as far as signals are concerned: it saves for a while after the first signal, and ends.
CHILD = """
import signal, sys, time
from pathlib import Path
folder, name, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
received = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: received.append(signal.Signals(number).name))
(folder / f"{name}.began").touch()
while not received:
    time.sleep(0.01)
time.sleep(seconds)
(folder / f"{name}.saved").write_text(" ".join(received))
sys.exit(143)
"""
PROGRAM = """
import sys
from pathlib import Path
from shortcut_snn.cli import _run_pool
from shortcut_snn.recipes import recipe_of
from shortcut_snn.training import RunFolder
folder, seconds, fails = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
start, sleep = _run_pool.start_python, _run_pool.time.sleep
def start_child(arguments, log, threads):
    return start([str(folder / "child.py"), str(folder), log.stem, seconds], log, threads)
def fail(duration):
    sleep(duration)
    if fails and all((folder / f"{name}.began").exists() for name in "ab"):
        raise RuntimeError("a bug")
_run_pool.start_python, _run_pool.time.sleep = start_child, fail
pool = _run_pool.RunPool(2, log=lambda line: print(line, flush=True))
pool.train([_run_pool.TrainingRun(name, recipe_of(), RunFolder(folder / name)) for name in "abc"], str)
"""


class Terminal:
    """A session with a parent, two running children and a third one that waits."""

    def __init__(self, folder: Path, *words: str) -> None:
        (folder / "child.py").write_text(CHILD)
        self.folder = folder
        self.parent = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.wait_for("a.began", "b.began")

    def wait_for(self, *names: str) -> None:
        deadline = time.monotonic() + 60
        while not all((self.folder / name).exists() for name in names):
            assert time.monotonic() < deadline, names
            time.sleep(0.02)

    def press_ctrl_c(self) -> None:
        """A terminal sends SIGINT to the whole process group."""
        os.killpg(self.parent.pid, signal.SIGINT)


@pytest.fixture
def terminal(tmp_path):
    opened = []

    def make(*words: str) -> Terminal:
        opened.append(Terminal(tmp_path, *words))
        return opened[-1]

    yield make
    for each in opened:
        each.parent.kill()
        each.parent.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_children_once_and_waits(terminal, tmp_path, number):
    session = terminal("0.5")
    os.killpg(session.parent.pid, number)
    lines = session.parent.communicate(timeout=60)[0].splitlines()
    assert [line for line in lines if line.startswith("stopping 2 runs")]
    assert [(tmp_path / f"{name}.saved").read_text() for name in "ab"] == ["SIGTERM", "SIGTERM"]
    assert not (tmp_path / "c.began").exists()
    if number == signal.SIGINT:
        assert lines[-1] == "KeyboardInterrupt"
    else:
        assert session.parent.returncode == 143


def test_a_second_signal_kills_children(terminal, tmp_path):
    session = terminal("1000")
    session.press_ctrl_c()
    assert session.parent.stdout.readline().startswith("stopping")
    session.press_ctrl_c()
    session.parent.communicate(timeout=60)
    assert not list(tmp_path.glob("*.saved"))


def test_an_error_in_the_parent_stops_children(terminal, tmp_path):
    session = terminal("0", "fails")
    assert session.parent.communicate(timeout=60)[0].splitlines()[-1] == "RuntimeError: a bug"
    session.wait_for("a.saved", "b.saved")
    assert not (tmp_path / "c.began").exists()


def test_a_run_whose_parent_is_killed_saves_and_ends(tmp_path, monkeypatch):
    run, parent = RunFolder(tmp_path / "run"), os.getppid()
    monkeypatch.setenv(PARENT, str(parent))
    # An orphan has another parent; here, from its first epoch on.
    monkeypatch.setattr(os, "getppid", lambda: parent + run.table("metrics").exists())
    assert train(run.path, training__epochs=9) == 128 + signal.SIGTERM
    assert len(read_rows(run.table("metrics"))) == 1
    assert (run / "checkpoint.ckpt").is_file()
    # The processes that a run starts have another parent than the run.
    assert PARENT not in os.environ


def run(code: str, log: Path) -> int:
    return start_python(["-c", code], log, threads=3).wait(60)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
        ("import os; os.kill(os.getpid(), 11)", "SIGSEGV"),
        ("print('shortcut-snn: error: why'); print('epoch 2/9'); exit(1)", "why"),
        ("{}['key']", "KeyError: 'key'"),
        ("print('shortcut-snn: error: of an earlier attempt', flush=True); {}['key']", "KeyError: 'key'"),
        ("exit(3)", "exit status 3"),
    ],
)
def test_a_failure_names_its_reason(tmp_path, code, reason):
    status = run(code, tmp_path / "log")
    assert reason in failure_reason(status, tmp_path / "log")


def test_children_import_nothing_from_the_current_folder(tmp_path, monkeypatch):
    here, listed = tmp_path / "here", tmp_path / "listed"
    for folder in (here, listed):
        folder.mkdir()
    (here / "yaml.py").write_text("print('hijacked')")
    (listed / "mine.py").write_text("print('mine')")
    monkeypatch.chdir(here)
    paths = [str(listed), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    assert run("import mine, yaml", tmp_path / "log") == 0
    assert (tmp_path / "log").read_text() == "mine\n"


@pytest.mark.usefixtures("nothing_imported")
def test_children_know_their_parent_and_respect_the_users_threads(tmp_path, monkeypatch):
    code = f"import os; print(os.environ['OMP_NUM_THREADS'], os.environ['{PARENT}'] == str(os.getppid()))"
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    run(code, tmp_path / "log")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    run(code, tmp_path / "log")
    assert (tmp_path / "log").read_text() == "3 True\n5 True\n"


def test_runs_share_the_cores_that_are_allowed(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)), raising=False)
    assert [RunPool(jobs).threads for jobs in (1, 2, 9)] == [6, 3, 1]


def test_a_log_that_is_a_link_is_not_written_through(tmp_path):
    (tmp_path / "mine").write_text("mine\n")
    (tmp_path / "log").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="log"):
        run("print('theirs')", tmp_path / "log")
    assert (tmp_path / "mine").read_text() == "mine\n"
