"""Python processes that tests start, forked from one that has imported everything: two seconds each instead of twelve.

They are processes of their own as any other, with their own arguments, folder, variables, streams and session, and
children of the one that starts them. What asks Python for more than ``-P`` and ``-W`` before ``-m``, ``-c`` or a
script, or sets a variable that is read when modules are imported, starts as usual, and so does everything where there
is no Linux.
"""

import atexit
import ctypes
import gc
import importlib
import inspect
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from .pictures import coarse

IMPORTED = ("lightning.pytorch", "numba", "matplotlib.figure", "matplotlib.backends.backend_agg", "sklearn.datasets")
# Begins of variables that are read by what is imported.
EARLY = ("PYTHON", "TRITON_", "MALLOC_", "LD_", "MPL", "SHORTCUT_SNN_BACKEND")
STREAMS = ("p2cread", "c2pwrite", "errwrite")
PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
USUAL: dict[str, Any] = {
    "shell": False, "preexec_fn": None, "pass_fds": (), "uid": None, "gid": None, "gids": None, "umask": -1,
    "process_group": -1,
}  # fmt: skip
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
Usual: Any = subprocess.Popen


class Popen(Usual):  # type: ignore[misc]
    """``subprocess.Popen``; a Python process is forked where that can be."""

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _server: ClassVar[socket.socket | None] = None

    def _execute_child(self, *args: Any) -> None:
        given = inspect.signature(Usual._execute_child).bind(self, *args).arguments
        variables = dict(os.environ if given["env"] is None else given["env"])
        words = _words(given, variables)
        if words is None:
            super()._execute_child(*args)
            return
        folder = os.fspath(given["cwd"] or os.getcwd())
        request = json.dumps([words, folder, variables, given["start_new_session"]]).encode()
        streams = [number if given[name] == -1 else given[name] for number, name in enumerate(STREAMS)]
        with Popen._lock:
            Popen._server = Popen._server or _start()
            # Between it and that server is a process that has ended when the answer comes; an orphan is then ours.
            _adopt(True)
            socket.send_fds(Popen._server, [len(request).to_bytes(4, "big")], streams)
            Popen._server.sendall(request)
            self.pid = int.from_bytes(_receive(Popen._server, 4), "big")
            _adopt(False)
        self._child_created = True
        self._close_pipe_fds(*(given[name] for name in PIPES))


def _words(given: Mapping[str, Any], variables: Mapping[str, str]) -> list[str] | None:
    """Return Python's arguments, or None where it is not Python or something else is unusual."""
    called = given["args"]
    if not sys.platform.startswith("linux") or isinstance(called, (str, bytes)) or not isinstance(called, Sequence):
        return None
    python, *words = map(os.fspath, called)
    rest = words[words[:1] == ["-P"] :]
    rest = rest[2 if rest[:1] == ["-W"] else 0 :]
    # The names of what is not used begin so.
    values = {name.removeprefix("unused_"): value for name, value in given.items()}
    usual = all(values.get(name, value) == value for name, value in USUAL.items())
    early = [{k: v for k, v in each.items() if k.startswith(EARLY)} for each in (os.environ, variables)]
    for each in early:
        each.pop("PYTHONPATH", None)
    known = rest[:1] in (["-m"], ["-c"]) or (bool(rest) and rest[0].endswith(".py"))
    if python == sys.executable and known and usual and early[0] == early[1]:
        return words
    return None


def _adopt(on: bool) -> None:
    ctypes.CDLL(None).prctl(SUBREAPER, int(on), 0, 0, 0)


def _receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise EOFError("the process that forks has ended")
        data += more
    return data


def _start() -> socket.socket:
    """Start what forks; it ends when our end of the socket is closed."""
    ours, theirs = socket.socketpair()
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\nfrom tests.forked import serve\n"
    with theirs:
        number = theirs.fileno()
        Usual([sys.executable, "-P", "-c", f"{code}serve({number})"], pass_fds=[number], stdin=subprocess.DEVNULL)
    return ours


def import_all() -> None:
    """Import what a run, a command or an export imports."""
    ours = importlib.import_module("shortcut_snn")
    names = [each.name for each in pkgutil.walk_packages(ours.__path__, "shortcut_snn.")]
    for name in (*IMPORTED, *names):
        if not name.endswith(("__main__", ".gpu")):
            importlib.import_module(name)


def serve(descriptor: int) -> None:
    """Import everything, then fork a process for each request until there are no more."""
    # Ctrl-C is for the tests.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import_all()
    gc.collect()
    gc.freeze()
    with coarse(), socket.socket(fileno=descriptor) as connection:
        while True:
            header, streams, _, _ = socket.recv_fds(connection, 4, len(STREAMS))
            if not header:
                os._exit(0)
            request = json.loads(_receive(connection, int.from_bytes(header, "big")))
            reading, writing = os.pipe()
            between = os.fork()
            if not between:
                child = os.fork()
                if child:
                    os.write(writing, child.to_bytes(4, "big"))
                    os._exit(0)
                for number in (descriptor, reading, writing):
                    os.close(number)
                os._exit(_run(streams, *request))
            os.waitpid(between, 0)
            connection.sendall(os.read(reading, 4))
            for number in (reading, writing, *streams):
                os.close(number)


def _run(streams: list[int], words: list[str], folder: str, variables: dict[str, str], session: bool) -> int:
    """Be the process that was asked for, to its end but for taking modules apart; return the exit status."""
    status = 0
    try:
        if session:
            os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        for stream in streams:
            os.close(stream)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", buffering=1 if os.isatty(1) else -1, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
        signal.signal(signal.SIGINT, signal.default_int_handler)
        inherited = os.environ.get("PYTHONPATH", "")
        os.environ.clear()
        os.environ.update(variables)
        os.chdir(folder)
        _execute(words, folder, inherited)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException as error:
        sys.excepthook(*sys.exc_info())
        status = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        status = status or 120
    if status == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return status & 255


def _execute(words: list[str], folder: str, inherited: str) -> None:
    """Do what Python does with its arguments."""
    import numba
    import torch
    from lightning.fabric.utilities.rank_zero import _get_rank, rank_zero_only

    # What was read of the environment when these were imported.
    numba.config.reload_config()
    rank_zero_only.rank = _get_rank() or 0
    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))
    isolated, words = words[0] == "-P", words[words[0] == "-P" :]
    if words[0] == "-W":
        warnings.simplefilter(words[1])  # type: ignore[arg-type]
        words = words[2:]
    kind, what, *rest = words if words[0] in ("-m", "-c") else ("", *words)
    # The repository's folder, and what follows it.
    before = [each for each in inherited.split(os.pathsep) if each]
    del sys.path[: 1 + len(before)]
    sys.path[:0] = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    if not isolated:
        sys.path.insert(0, {"-m": folder, "-c": ""}.get(kind, os.path.dirname(os.path.abspath(what))))
    sys.argv = ["-c" if kind == "-c" else what, *rest]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    elif kind == "":
        runpy.run_path(what, run_name="__main__")
    else:
        names = vars(sys.modules["__main__"])
        names.clear()
        names["__name__"] = "__main__"
        exec(compile(what, "<string>", "exec"), names)
