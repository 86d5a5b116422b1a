"""Nothing that tests write is forced to the disk: no test cuts the power, and each file would take 10 ms."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

CONNECT = sqlite3.connect


@contextmanager
def unforced() -> Iterator[None]:
    """Let files and databases stay in the system's memory inside the block."""

    def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection = CONNECT(*args, **kwargs)
        connection.execute("pragma synchronous = off")
        return connection

    with mock.patch.object(os, "fsync"), mock.patch.object(sqlite3, "connect", connect):
        yield
