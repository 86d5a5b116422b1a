"""Fork the Python processes that tests start from a server that has imported everything: two seconds each, not twelve.

1. The root ``conftest.py`` replaces ``subprocess.Popen`` by :class:`Popen`.
2. The first Python process starts the server, :func:`serve`, which imports everything once.
3. ``Popen`` sends the server a request: arguments, folder, environment, and the three standard streams.
4. The server forks twice. The grandchild runs the request; the child ends, so the grandchild becomes an orphan.
5. This process adopts the orphan as its own child (``PR_SET_CHILD_SUBREAPER``), so it can wait for it and signal it.

Other programs, unusual options of ``Popen``, and variables that are read at import time use the original ``Popen``.
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
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from .disk import unforced
from .pictures import coarse

IMPORTED = ("lightning.pytorch", "numba", "matplotlib.figure", "matplotlib.backends.backend_agg", "sklearn.datasets")
READ_AT_IMPORT = ("PYTHON", "TRITON_", "MALLOC_", "LD_", "MPL")
"""Beginnings of variables that are read when modules are imported."""
STREAMS = ("p2cread", "c2pwrite", "errwrite")
"""The child's ends of stdin, stdout and stderr, as ``subprocess`` names them."""
PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
DEFAULTS: dict[str, Any] = {
    "shell": False, "preexec_fn": None, "pass_fds": (), "uid": None, "gid": None, "gids": None, "umask": -1,
    "process_group": -1,
}  # fmt: skip
PR_SET_CHILD_SUBREAPER = 36
OriginalPopen: Any = subprocess.Popen


class Popen(OriginalPopen):  # type: ignore[misc]
    """``subprocess.Popen`` that forks Python processes from the server."""

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _server: ClassVar[socket.socket | None] = None

    def _execute_child(self, *args: Any) -> None:
        call = inspect.signature(OriginalPopen._execute_child).bind(self, *args).arguments
        environment = dict(os.environ if call["env"] is None else call["env"])
        arguments = _python_arguments(call, environment)
        if arguments is None:
            super()._execute_child(*args)
            return
        folder = os.fspath(call["cwd"] or os.getcwd())
        request = json.dumps([arguments, folder, environment, call["start_new_session"]]).encode()
        # -1 stands for a stream that is inherited.
        streams = [number if call[name] == -1 else call[name] for number, name in enumerate(STREAMS)]
        with Popen._lock:
            Popen._server = Popen._server or _start_server()
            _adopt_orphans(True)
            socket.send_fds(Popen._server, [len(request).to_bytes(4, "big")], streams)
            Popen._server.sendall(request)
            self.pid = int.from_bytes(_receive(Popen._server, 4), "big")
            _adopt_orphans(False)
        self._child_created = True
        self._close_pipe_fds(*(call[name] for name in PIPES))


def _python_arguments(call: Mapping[str, Any], environment: Mapping[str, str]) -> list[str] | None:
    """Return the arguments of a Python process, or None if the original ``Popen`` has to start it."""
    command = call["args"]
    if not sys.platform.startswith("linux") or isinstance(command, (str, bytes)) or not isinstance(command, Sequence):
        return None
    python, *arguments = map(os.fspath, command)
    program = arguments[arguments[:1] == ["-P"] :]
    program = program[2 if program[:1] == ["-W"] else 0 :]
    runs_program = program[:1] in (["-m"], ["-c"]) or (bool(program) and program[0].endswith(".py"))
    # Parameters that _execute_child does not use have the prefix.
    options = {name.removeprefix("unused_"): value for name, value in call.items()}
    has_defaults = all(options.get(name, value) == value for name, value in DEFAULTS.items())
    here, there = (
        {key: value for key, value in variables.items() if key.startswith(READ_AT_IMPORT) and key != "PYTHONPATH"}
        for variables in (os.environ, environment)
    )
    return arguments if python == sys.executable and runs_program and has_defaults and here == there else None


def _adopt_orphans(on: bool) -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)


def _receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise EOFError("the server has ended")
        data += more
    return data


def _start_server() -> socket.socket:
    """Start the server and return a connection to it. The server ends when the connection is closed."""
    ours, theirs = socket.socketpair()
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\nfrom tests.forked import serve\n"
    with theirs:
        number = theirs.fileno()
        arguments = [sys.executable, "-P", "-c", f"{code}serve({number})"]
        OriginalPopen(arguments, pass_fds=[number], stdin=subprocess.DEVNULL)
    return ours


def import_all() -> None:
    """Import the modules of the package, and what a run, a command or an export imports."""
    package = importlib.import_module("shortcut_snn")
    modules = [module.name for module in pkgutil.walk_packages(package.__path__, "shortcut_snn.")]
    for name in (*IMPORTED, *modules):
        if not name.endswith("__main__") and ".gpu" not in name:
            importlib.import_module(name)


def serve(descriptor: int) -> None:
    """Import everything, then fork a process for each request until the connection is closed."""
    # Ctrl-C is meant for the tests.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import_all()
    gc.collect()
    gc.freeze()
    with coarse(), unforced(), socket.socket(fileno=descriptor) as connection:
        while True:
            header, streams, _, _ = socket.recv_fds(connection, 4, len(STREAMS))
            if not header:
                os._exit(0)
            request = json.loads(_receive(connection, int.from_bytes(header, "big")))
            reading, writing = os.pipe()
            child = os.fork()
            if not child:
                middle = os.getpid()
                grandchild = os.fork()
                if grandchild:
                    os.write(writing, grandchild.to_bytes(4, "big"))
                    os._exit(0)
                for number in (descriptor, reading, writing):
                    os.close(number)
                # A run ends if its parent is not the process that started it, so it must be adopted first.
                while os.getppid() == middle:
                    time.sleep(0.001)
                os._exit(_run(streams, *request))
            # Once the child has ended, the grandchild is an orphan and adopted.
            os.waitpid(child, 0)
            connection.sendall(os.read(reading, 4))
            for number in (reading, writing, *streams):
                os.close(number)


def _run(streams: list[int], arguments: list[str], folder: str, environment: dict[str, str], session: bool) -> int:
    """Run a request as a fresh Python process would, and return its exit status."""
    status = 0
    try:
        inherited_path = _become_new_process(streams, folder, environment, session)
        _execute(arguments, folder, inherited_path)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException as error:
        sys.excepthook(*sys.exc_info())
        status = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    # os._exit skips what Python does at its end.
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


def _become_new_process(streams: list[int], folder: str, environment: dict[str, str], session: bool) -> str:
    """Set session, streams, signals, environment and folder; return the ``PYTHONPATH`` of the server."""
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
    inherited_path = os.environ.get("PYTHONPATH", "")
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    _reread_environment()
    return inherited_path


def _reread_environment() -> None:
    """Set what libraries read of the environment when they were imported."""
    import numba
    import torch
    from lightning.fabric.utilities.rank_zero import _get_rank, rank_zero_only

    from shortcut_snn.neurons import set_backend

    set_backend(os.environ.get("SHORTCUT_SNN_BACKEND", "auto"))  # type: ignore[arg-type]
    numba.config.reload_config()
    rank_zero_only.rank = _get_rank() or 0
    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))


def _execute(arguments: list[str], folder: str, inherited_path: str) -> None:
    """Run a module, code or a script with the ``sys.path`` and ``sys.argv`` that Python gives it."""
    isolated, arguments = arguments[0] == "-P", arguments[arguments[0] == "-P" :]
    if arguments[0] == "-W":
        warnings.simplefilter(arguments[1])  # type: ignore[arg-type]
        arguments = arguments[2:]
    option, program, *parameters = arguments if arguments[0] in ("-m", "-c") else ("", *arguments)
    # The server's path starts with the repository and its own PYTHONPATH.
    server_path = [entry for entry in inherited_path.split(os.pathsep) if entry]
    del sys.path[: 1 + len(server_path)]
    sys.path[:0] = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if not isolated:
        sys.path.insert(0, {"-m": folder, "-c": ""}.get(option, os.path.dirname(os.path.abspath(program))))
    sys.argv = ["-c" if option == "-c" else program, *parameters]
    if option == "-m":
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    elif option == "-c":
        names = vars(sys.modules["__main__"])
        names.clear()
        names["__name__"] = "__main__"
        exec(compile(program, "<string>", "exec"), names)
    else:
        runpy.run_path(program, run_name="__main__")
