# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the processor's time of greyd goes while 64 connections put or get: samples of a greyd of our own."""

from __future__ import annotations

import asyncio
import json
import linecache
import os
import re
import signal
import stat
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import support.federation
from _cluster import Shared, one_cluster
from _load import closed_loop, over
from _report import Section, Table
from _turns import WARM_UP_SECONDS, calm
from engines import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _turns import Pace

CLIENTS = 64
_TOP = 10
_HERE = Path(__file__).resolve().parent
_SENDING = re.compile(r"transport\.write")
_PARSING = re.compile(r"feed_data")
_ROOMS = (
    (re.compile(r"/aiohttp/|/multidict/|/yarl/"), "aiohttp around it: requests, their headers, tasks"),
    (re.compile(r"/grey/serve/"), "`grey.serve`: routes, checks, answers, metrics"),
    (re.compile(r"/grey/data/|/grey/record/"), "`grey.data`, `grey.record`: group commit, envelope, memory"),
    (re.compile(r"/grey/store/|/grey/link/"), "`grey.store`: requests to the engine, its watch"),
    (re.compile(r"/grey/"), "the rest of grey: fence, role, pulse"),
    (re.compile(r"grpc|google|/aetcd/"), "gRPC and protobuf"),
)


class _Sampled(NamedTuple):
    seconds: float
    file: str
    line: int
    function: str

    @property
    def source(self) -> str:
        """The text of the line."""
        return linecache.getline(self.file, self.line).strip()

    def room(self) -> str:
        """Say what kind of work it is."""
        if not self.file:
            return (
                "event loop, reading: sockets, TLS (uvloop, OpenSSL)"
                if self.function == "loop"
                else "gRPC's own threads"
            )
        if _SENDING.search(self.source):
            return "sending: TLS, socket (uvloop, OpenSSL)"
        if _PARSING.search(self.source):
            return "parsing HTTP (C code of aiohttp)"
        return next((name for pattern, name in _ROOMS if pattern.search(self.file)), "Python's library")


async def measure(pace: Pace) -> Section:
    """Sample puts and gets on one etcd."""
    busy = await calm(pace.patience_seconds)
    tables: list[Table] = []
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="grey-bench-")))
        stack.callback(setattr, support.federation, "GREYD", support.federation.GREYD)
        support.federation.GREYD = str(_wrapper(folder, support.federation.GREYD))
        cluster = await stack.enter_async_context(one_cluster(folder, Shared(greyds=1, members=1)))
        await cluster.fill()
        (pid,) = cluster.greyd()
        connections = await cluster.connect(CLIENTS)
        for what, requests in REQUESTS.items():
            call = over(connections, requests)
            await closed_loop(call, CLIENTS, WARM_UP_SECONDS)
            os.kill(pid, signal.SIGUSR1)
            sample = await closed_loop(call, CLIENTS, 4 * pace.seconds)
            os.kill(pid, signal.SIGUSR2)
            samples = await asyncio.to_thread(_result, folder / "profile")
            tables += _tables(what, samples, len(sample.took))
        for connection in connections:
            connection.close()
    return Section("profile", tables, busy)


def _wrapper(folder: Path, greyd: str) -> Path:
    """Write a command that runs greyd with the sampler, and its other commands as they are."""
    path = folder / "greyd"
    path.write_text(
        f'#!/bin/sh\n[ "$1" = run ] || exec {greyd} "$@"\n'
        f'GREY_BENCH_PROFILE={folder}/profile exec {sys.executable} {_HERE}/_profiled_greyd.py "$@"\n',
        encoding="utf-8",
    )
    path.chmod(stat.S_IRWXU)
    return path


def _result(target: Path) -> list[_Sampled]:
    """Wait for the samples, which greyd writes at SIGUSR2."""
    end = time.monotonic() + 20
    while not target.exists():
        if time.monotonic() > end:
            raise RuntimeError(f"no samples in {target}: greyd ended, or did not hear the signal")
        time.sleep(0.05)
    lines = json.loads(target.read_text(encoding="utf-8"))
    target.unlink()
    return [_Sampled(seconds, file, line, function) for file, line, function, seconds in lines]


def _tables(what: str, samples: list[_Sampled], operations: int) -> Iterator[Table]:
    """Return the kinds of work, and the lines that took the most."""
    rooms: dict[str, float] = {}
    for each in samples:
        rooms[each.room()] = rooms.get(each.room(), 0.0) + each.seconds
    total = sum(rooms.values())
    yield Table(
        [f"{what}: where greyd's time goes", "share", f"µs per {what}"],
        [
            [name, f"{seconds / total:.0%}", f"{1e6 * seconds / operations:.1f}"]
            for name, seconds in sorted(rooms.items(), key=lambda room: -room[1])
        ],
    )
    lines = sorted((each for each in samples if each.file), reverse=True)
    yield Table(
        [f"{what}: the first {_TOP} lines of Python", "share", "what it says"],
        [
            [
                f"`{'/'.join(Path(each.file).parts[-2:])}` {each.function}",
                f"{each.seconds / total:.1%}",
                f"`{each.source}`",
            ]
            for each in lines[:_TOP]
        ],
    )
