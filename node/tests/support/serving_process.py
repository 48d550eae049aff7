# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key-value API, or the control plane, in a process of its own: its memory and its death can be seen."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import uvloop
from support.control import Control, serving_control
from support.serving import FakeRole, serving

from grey.data.history import History
from grey.replicate.source import Source
from grey.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class ServingProcess:
    """A node that serves on ``port``; faults of it (status 500) stand in its log."""

    def __init__(self, process: subprocess.Popen[str], port: int, log: Path) -> None:
        self.port = port
        self._process = process
        self._log = log

    def memory_bytes(self) -> int:
        """Return what the process holds in memory."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def alive(self) -> bool:
        return self._process.poll() is None

    def faults(self) -> str:
        return self._log.read_text()


@contextmanager
def serving_process(folder: Path, what: str = "api") -> Iterator[ServingProcess]:
    """Serve the ``api`` or the ``control`` plane in another process, which ends with the context."""
    log = folder / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "support.serving_process", str(folder), what],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    with process, process.stdin, process.stdout:
        try:
            yield ServingProcess(process, int(process.stdout.readline()), log)
        finally:
            process.kill()


@asynccontextmanager
async def control(folder: Path) -> AsyncIterator[Control]:
    """Serve the control plane before a real source; its certificates are below ``folder``."""
    store = await SqliteStore.create(folder / "data.sqlite")
    try:
        history = History(store)
        await history.claim(1)
        source = Source(store, history, FakeRole(), cluster="aws-east", batch_size=100, interval_seconds=0.1)
        made = Control(folder, source=source)
        made.cluster("gcp-west")
        async with serving_control(made):
            yield made
    finally:
        await store.close()


async def main(folder: Path, what: str) -> None:
    """Serve until standard input ends, that is until the parent does."""
    logging.basicConfig(level=logging.WARNING)
    async with serving(folder) if what == "api" else control(folder) as node:
        print(node.port, flush=True)  # noqa: T201 - this is how the parent learns it
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), sys.argv[2]))
