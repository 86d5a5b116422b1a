"""Processes: stopped once, waited for, and never left behind. A ``terminal`` is a session with a parent in it."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from shortcut_snn.cli._children import Children, Process, Stopped, follow_parent, why

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such signals")

# A run as far as signals go: it notes them, saves for a while after the first, and leaves.
CHILD = """
import signal, sys, time
from pathlib import Path
from shortcut_snn.cli._children import follow_parent
folder, got = Path(sys.argv[1]), []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: got.append(signal.Signals(number).name))
follow_parent()
(folder / f"{sys.argv[2]}.began").touch()
while not got:
    time.sleep(0.01)
time.sleep(float(sys.argv[3]))
(folder / f"{sys.argv[2]}.saved").write_text(" ".join(got))
sys.exit(143)
"""
PARENT = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shortcut_snn.cli._children import Children, Process, Stopped
folder = Path(sys.argv[1])
children = Children(lambda line: print(line, flush=True))
def one(name):
    with (folder / "log").open("ab") as output:
        try:
            start = lambda: Process([str(folder / "child.py"), str(folder), name, sys.argv[2]], output)
            print(name, children.run(start), flush=True)
        except Stopped as stopped:
            print(name, stopped, flush=True)
            raise
with ThreadPoolExecutor(2) as pool, children.block():
    list(pool.map(one, "abc"))
"""


class Terminal:
    """A parent with two children running and a third one waiting."""

    def __init__(self, folder: Path, seconds: float) -> None:
        (folder / "child.py").write_text(CHILD)
        (folder / "parent.py").write_text(PARENT)
        self.folder = folder
        self.parent = subprocess.Popen(
            [sys.executable, str(folder / "parent.py"), str(folder), str(seconds)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.wait_for("a.began", "b.began")

    def wait_for(self, *names: str) -> None:
        deadline = time.monotonic() + 60
        while not all((self.folder / name).exists() for name in names):
            assert time.monotonic() < deadline, (names, (self.folder / "log").read_text())
            time.sleep(0.02)

    def press_ctrl_c(self) -> None:
        """The terminal sends it to the whole group."""
        os.killpg(self.parent.pid, signal.SIGINT)

    def leave(self) -> list[str]:
        return self.parent.communicate(timeout=60)[0].splitlines()


@pytest.fixture
def terminal(tmp_path):
    opened = []

    def make(seconds: float) -> Terminal:
        opened.append(Terminal(tmp_path, seconds))
        return opened[-1]

    yield make
    for each in opened:
        each.parent.kill()
        each.parent.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_children_are_asked_once_and_waited_for(terminal, tmp_path, number):
    shown = terminal(0.5)
    os.killpg(shown.parent.pid, number)
    lines = shown.leave()
    assert lines[0] == "stopping: 2 runs save what they have; once more to kill them"
    assert sorted(line for line in lines if line.endswith("stopped")) == ["a stopped", "b stopped"]
    assert [(tmp_path / f"{name}.saved").read_text() for name in "ab"] == ["SIGTERM", "SIGTERM"]
    assert not (tmp_path / "c.began").exists()
    if number == signal.SIGINT:
        assert "KeyboardInterrupt" in lines
    else:
        assert shown.parent.returncode == 143


def test_a_second_ctrl_c_kills(terminal, tmp_path):
    shown = terminal(1000)
    shown.press_ctrl_c()
    assert shown.parent.stdout.readline().startswith("stopping: 2 runs")
    shown.press_ctrl_c()
    assert sorted(line for line in shown.leave() if line.endswith("stopped")) == ["a stopped", "b stopped"]
    assert not list(tmp_path.glob("*.saved"))


def test_children_of_a_killed_parent_save_and_stop(terminal, tmp_path):
    shown = terminal(0)
    shown.parent.kill()
    shown.wait_for("a.saved", "b.saved")
    assert not (tmp_path / "c.began").exists()


def test_a_parent_that_is_killed_while_it_waits_does_not_ask_twice(terminal, tmp_path):
    shown = terminal(1)
    shown.press_ctrl_c()
    assert shown.parent.stdout.readline().startswith("stopping: 2 runs")
    shown.parent.kill()
    shown.wait_for("a.saved", "b.saved")
    assert [(tmp_path / f"{name}.saved").read_text() for name in "ab"] == ["SIGTERM", "SIGTERM"]


def test_an_error_in_the_block_stops_children_too(tmp_path):
    (tmp_path / "child.py").write_text(CHILD)
    code = PARENT.replace('list(pool.map(one, "abc"))', 'pool.submit(one, "a"); wait(); raise ValueError("a bug")')
    code = (
        textwrap.dedent("""
        import time
        def wait():
            while not (folder / "a.began").exists():
                time.sleep(0.01)
    """)
        + code
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), "0"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr.splitlines()[-1] == "ValueError: a bug"
    assert done.stdout == "a stopped\n"
    assert (tmp_path / "a.saved").read_text() == "SIGTERM"


def test_statuses_and_output_are_those_of_the_process(tmp_path):
    with (tmp_path / "log").open("wb") as output:
        assert Children().run(lambda: Process(["-c", "print('why')"], output)) == 0
        assert Children().run(lambda: Process(["-c", "import sys; sys.exit(3)"], output)) == 3
        assert Children().run(lambda: Process(["-c", "import os; os.kill(os.getpid(), 9)"], output)) == -9
    assert (tmp_path / "log").read_text() == "why\n"


def test_nothing_is_imported_from_the_current_folder(tmp_path, monkeypatch):
    here, given = tmp_path / "here", tmp_path / "given"
    for folder in (here, given):
        folder.mkdir()
    (here / "yaml.py").write_text("print('hijacked')")
    (given / "mine.py").write_text("print('mine')")
    monkeypatch.chdir(here)
    # An empty entry would be the current folder, on the person's own word.
    paths = [str(given), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    with (tmp_path / "log").open("wb") as output:
        assert Children().run(lambda: Process(["-c", "import mine, yaml"], output, environment)) == 0
    assert (tmp_path / "log").read_text() == "mine\n"


def test_nothing_starts_once_it_is_over(tmp_path):
    children = Children()
    with pytest.raises(ValueError, match="a bug"), children.block():
        raise ValueError("a bug")
    with (tmp_path / "log").open("wb") as output, pytest.raises(Stopped, match="not started"):
        children.run(lambda: Process(["-c", "print('started')"], output))
    assert (tmp_path / "log").read_text() == ""


def test_whoever_has_no_parent_follows_nobody(monkeypatch):
    monkeypatch.delenv("SHORTCUT_SNN_PARENT_FD", raising=False)
    follow_parent()


def test_why_a_run_ended():
    assert why(-signal.SIGKILL, ["epoch 7/10: loss 1.0"]) == "killed by SIGKILL (was there enough memory?)"
    assert why(-signal.SIGSEGV, []) == "killed by SIGSEGV"
    assert why(1, ["a", "shortcut-snn: error: b"]) == "b"
    assert why(1, ["shortcut-snn: error: b", "epoch 19/30: loss 2.3"]) == "b"
    assert why(1, ["Traceback", "KeyError: 3"]) == "KeyError: 3"
    assert why(3, []) == "exit status 3"
