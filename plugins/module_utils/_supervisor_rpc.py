# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Talking to supervisord over its unix socket."""

from __future__ import annotations

import contextlib
import http.client
import socket
import xmlrpc.client
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ANSWER_SECONDS = 5.0


@dataclass(frozen=True)
class ProgramState:
    """What supervisord says of a program. ``start`` is when it was last started, in Unix seconds."""

    name: str
    state: str
    pid: int
    start: int
    problem: str


class SupervisorClient:
    """The calls that the module needs. Each raises GreyError when supervisord does not answer or refuses."""

    def __init__(self, path: Path, timeout_seconds: float = _ANSWER_SECONDS) -> None:
        self._path = path
        self._timeout = timeout_seconds

    def pid(self) -> int:
        """Return supervisord's process number."""
        return int(self._call("getPID"))

    def programs(self) -> dict[str, ProgramState]:
        """Return the state of every program it knows."""
        return {
            info["group"]: ProgramState(
                info["group"], info["statename"], int(info["pid"]), int(info["start"]), info["spawnerr"]
            )
            for info in self._call("getAllProcessInfo")
        }

    def reload(self) -> tuple[set[str], set[str], set[str]]:
        """Read the files again; return the programs added, changed and removed against what is active."""
        [[added, changed, removed]] = self._call("reloadConfig")
        return set(added), set(changed), set(removed)

    def add(self, name: str) -> None:
        """Make a program active, which starts it."""
        self._call("addProcessGroup", name)

    def remove(self, name: str) -> None:
        """Forget a stopped program."""
        self._call("removeProcessGroup", name)

    def start(self, name: str) -> None:
        """Start a program without waiting for it."""
        with _tolerated("ALREADY_STARTED", "SPAWN_ERROR"):
            self._call("startProcess", name, False)

    def stop(self, name: str, wait_seconds: float) -> None:
        """Stop a program and wait until it is gone."""
        with _tolerated("NOT_RUNNING"):
            self._call("stopProcess", name, True, timeout=wait_seconds + _ANSWER_SECONDS)

    def shutdown(self) -> None:
        """Ask supervisord to stop everything and end; it ends later."""
        self._call("shutdown")

    def _call(self, method: str, *arguments: Any, timeout: float | None = None) -> Any:
        transport = _UnixTransport(self._path, timeout or self._timeout)
        try:
            with xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=transport) as proxy:
                return getattr(proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            raise SupervisorFault(
                f"supervisord at {self._path}: {method}({', '.join(map(str, arguments))}): "
                f"{fault.faultString}"
            ) from fault
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            raise GreyError(
                f"supervisord at {self._path}: wanted an answer to {method}, found: {error}"
            ) from error


class SupervisorFault(GreyError):
    """Supervisord answered and refused."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path
        self._seconds = timeout_seconds

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self._seconds)
            sock.connect(str(self._path))
        except BaseException:
            sock.close()
            raise
        self.sock = sock


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path, timeout_seconds: float) -> None:
        super().__init__()
        self._path = path
        self._seconds = timeout_seconds

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _UnixConnection(self._path, self._seconds)
        self._connection = host, connection  # what close() closes
        return connection


@contextlib.contextmanager
def _tolerated(*faults: str) -> Iterator[None]:
    try:
        yield
    except SupervisorFault as fault:
        if not any(name in str(fault) for name in faults):
            raise
