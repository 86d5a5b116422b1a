"""Shuts every way to a network, in each Python process that has this folder on its path and the file's name.

Every attempt is noted in that file: one that is caught on its way counts too.
"""

import os
import socket
from typing import Any


def deny(note: str) -> None:
    def tried(what: str) -> OSError:
        with open(note, "a", encoding="utf-8") as file:
            file.write(f"{what}\n")
        return OSError("no network")

    def connect(self: socket.socket, *given: Any) -> None:
        if self.family != getattr(socket, "AF_UNIX", None):
            raise tried(f"a connection to {given}")

    def name(*given: Any, **named: Any) -> None:
        raise tried(f"the address of {given[0]}")

    for method in ("connect", "connect_ex", "sendto"):
        setattr(socket.socket, method, connect)
    socket.getaddrinfo = name  # type: ignore[assignment]


if "DENIED" in os.environ:
    deny(os.environ["DENIED"])
