# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Between two sites: a listener that ends by itself, and the round trip, clocks and bandwidth to it.

A connection begins with the run's token and a verb on one line. ``time``: each byte is answered by the clock
here as one line. ``take``: what follows is counted until the sender has ended, and the count answered.
``give SECONDS BYTES``: zeros follow. ``end``: the listener ends. Anything else is hung up on.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import socket
import statistics
import threading
import time
from dataclasses import dataclass

ROUNDS = 11
MOST_SECONDS = 5.0
MOST_BYTES = 256 * 2**20
_WAIT_SECONDS = 3.0
_BLOCK = b"\0" * 65536
_LINE_BYTES = 256
_AT_ONCE = 16


@dataclass(frozen=True)
class Measured:
    """The way to a listener: the median round trip, how far its clock is ahead of the one here and how wrong
    that may be, and what went through in each direction. ``problem`` says why nothing was measured.
    """

    round_trip_ms: float | None = None
    offset_ms: float | None = None
    offset_error_ms: float | None = None
    to_mbit: float | None = None
    from_mbit: float | None = None
    problem: str = ""


class Listener:
    """Answers those that know the token, until ``seconds`` are over or it is told to end."""

    def __init__(self, address: str, port: int, token: str, seconds: float) -> None:
        """Raises OSError when the port cannot be had."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.create_server((address, port), family=family)
        self.port: int = self._socket.getsockname()[1]
        self._token = token.encode()
        self._deadline = time.monotonic() + seconds
        self._told = threading.Event()
        self._room = threading.Semaphore(_AT_ONCE)

    def serve(self) -> None:
        """Answer until it is over."""
        with self._socket:
            while not self._told.is_set() and time.monotonic() < self._deadline:
                self._socket.settimeout(max(0.01, min(0.2, self._deadline - time.monotonic())))
                try:
                    connection, _peer = self._socket.accept()
                except TimeoutError:
                    continue
                connection.settimeout(_WAIT_SECONDS)
                if self._room.acquire(blocking=False):
                    threading.Thread(target=self._answer, args=(connection,), daemon=True).start()
                else:
                    connection.close()

    def close(self) -> None:
        """Give the port back, in the process that does not serve."""
        self._socket.close()

    def _answer(self, connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(OSError, ValueError):
                token, _separator, words = _line(connection).partition(b" ")
                if hmac.compare_digest(token, self._token):
                    self._do(connection, words.decode("ascii").split())
        finally:
            self._room.release()

    def _do(self, connection: socket.socket, words: list[str]) -> None:
        match words:
            case ["time"]:
                while connection.recv(1):
                    connection.sendall(f"{time.time():.6f}\n".encode())
            case ["take"]:
                count, seconds = _count(connection)
                connection.sendall(f"{count} {seconds:.6f}\n".encode())
            case ["give", seconds, size]:
                _send(connection, float(seconds), int(size))
            case ["end"]:
                self._told.set()


def start(address: str, port: int, token: str, seconds: float) -> int:
    """Listen in a process of its own, which outlives this one and ends by itself; return its number.

    Raises OSError when the port cannot be had.
    """
    listener = Listener(address, port, token, seconds)
    child = os.fork()
    if child:
        listener.close()
        _pid, _status = os.waitpid(child, 0)
        return listener.port
    try:
        os.setsid()
        if os.fork() == 0:
            nowhere = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):  # who started this waits until nobody holds them
                os.dup2(nowhere, stream)
            listener.serve()
    finally:
        os._exit(0)


def stop(address: str, port: int, token: str) -> bool:
    """Tell a listener to end; say whether it was there."""
    try:
        with _open(address, port, token, "end"):
            return True
    except OSError:
        return False


def measure(address: str, port: int, token: str, *, seconds: float, size: int) -> Measured:
    """Measure the way to a listener; send ``size`` bytes at most each way, for ``seconds`` at most."""
    seconds, size = min(seconds, MOST_SECONDS), min(size, MOST_BYTES)
    try:
        trips = _trips(address, port, token)
        best = min(trips)
        return Measured(
            statistics.median(trip for trip, _offset in trips) * 1000,
            best[1] * 1000,
            best[0] / 2 * 1000,
            *(_bandwidth(address, port, token, seconds, size) if size else (None, None)),
        )
    except (OSError, ValueError) as error:
        return Measured(problem=_said(error))


def _trips(address: str, port: int, token: str) -> list[tuple[float, float]]:
    """Return round trips and what the clock there is ahead by (as NTP does), in seconds."""
    found = []
    with _open(address, port, token, "time") as connection:
        for _round in range(ROUNDS):
            asked, began = time.time(), time.perf_counter()
            connection.sendall(b"?")
            there = float(_line(connection))
            trip = time.perf_counter() - began
            found.append((trip, there - (asked + trip / 2)))
    return found


def _bandwidth(address: str, port: int, token: str, seconds: float, size: int) -> tuple[float, float]:
    with _open(address, port, token, "take") as connection:
        _send(connection, seconds, size)
        connection.shutdown(socket.SHUT_WR)
        count, took = _line(connection).split()
        there = _mbit(int(count), float(took))
    with _open(address, port, token, f"give {seconds:g} {size}") as connection:
        return there, _mbit(*_count(connection))


def _open(address: str, port: int, token: str, verb: str) -> socket.socket:
    connection = socket.create_connection((address, port), timeout=_WAIT_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        connection.sendall(f"{token} {verb}\n".encode("ascii"))
    except OSError:
        connection.close()
        raise
    return connection


def _send(connection: socket.socket, seconds: float, size: int) -> None:
    deadline = time.monotonic() + min(seconds, MOST_SECONDS)
    left = min(size, MOST_BYTES)
    while left > 0 and time.monotonic() < deadline:
        left -= connection.send(_BLOCK[:left])


def _count(connection: socket.socket) -> tuple[int, float]:
    """Count what comes until the other side ends; return bytes and seconds."""
    count, began = 0, time.perf_counter()
    while piece := connection.recv(len(_BLOCK)):
        count += len(piece)
        if count > MOST_BYTES:
            raise ValueError("more than was agreed")
    return count, time.perf_counter() - began


def _line(connection: socket.socket) -> bytes:
    found = bytearray()
    while not found.endswith(b"\n"):
        piece = connection.recv(1)
        if not piece or len(found) > _LINE_BYTES:
            raise ConnectionResetError
        found += piece
    return bytes(found[:-1])


def _mbit(count: int, seconds: float) -> float:
    return count * 8 / 1e6 / max(seconds, 1e-6)


def _said(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "does not answer"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "hung up: another run's listener, or none of ours"
    return str(getattr(error, "strerror", None) or error)
