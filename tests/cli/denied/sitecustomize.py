"""Deny network connections in a Python process that has this folder on its path and the variable ``DENIED``.

The variable names a file that records attempts, also those whose error is caught.
"""

import os
import socket
from typing import Any


def deny(record: str) -> None:
    """Replace the functions of ``socket`` that reach a network. Connections within the machine still work."""

    def attempt(what: str) -> OSError:
        with open(record, "a", encoding="utf-8") as file:
            file.write(f"{what}\n")
        return OSError("no network")

    def connect(self: socket.socket, *args: Any) -> None:
        if self.family != getattr(socket, "AF_UNIX", None):
            raise attempt(f"connection to {args}")

    def getaddrinfo(*args: Any, **kwargs: Any) -> None:
        raise attempt(f"address of {args[0]}")

    for method in ("connect", "connect_ex", "sendto"):
        setattr(socket.socket, method, connect)
    socket.getaddrinfo = getaddrinfo  # type: ignore[assignment]


if "DENIED" in os.environ:
    deny(os.environ["DENIED"])
