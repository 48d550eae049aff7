# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that commits is killed at random moments: every acknowledged write is there afterwards."""

from __future__ import annotations

import asyncio
import random
import sys
from typing import TYPE_CHECKING

import pytest

from grey.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 8
SEED = 20240607

# Prints "KEY NUMBER REVISION" once a commit is acknowledged; compacts now and then.
PROGRAM = """
import asyncio, pathlib, sys
from grey.store.interface import Write
from grey.store.sqlite import SqliteStore

async def write(store, worker, number):
    while True:
        key = b"w%d" % worker
        other = Write(b"%s/%d" % (key, number % 50), bytes(3000))
        revision = await store.commit([], [Write(key, b"%d" % number), other])
        sys.stdout.write(f"{worker} {number} {revision}\\n")
        sys.stdout.flush()
        if revision % 97 == 0:
            await store.compact(revision - 20)
        number += 1

async def main():
    store = await SqliteStore.open(pathlib.Path(sys.argv[1]))
    begins = [await store.get(b"w%d" % worker) for worker in range(8)]
    numbers = [0 if item is None else int(item.value) + 1 for item in begins]
    await asyncio.gather(*(write(store, worker, number) for worker, number in enumerate(numbers)))

asyncio.run(main())
"""


async def run_and_kill(
    program: str, path: Path, after_lines: int, and_seconds: float
) -> list[tuple[int, int, int]]:
    """Return what the process acknowledged: worker, number, revision."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    lines: list[bytes] = []
    try:
        async with asyncio.timeout(30):
            while len(lines) < after_lines:
                line = await process.stdout.readline()
                if not line:
                    pytest.fail(f"the process ended by itself after {len(lines)} lines")
                lines.append(line)
        # A moment of its own, so that the kill does not always follow an acknowledgement.
        await asyncio.sleep(and_seconds)
    finally:
        process.kill()
        rest = await process.stdout.read()
        await process.wait()
    lines += rest.splitlines(keepends=True)
    whole = [line.split() for line in lines if line.endswith(b"\n")]
    return [(int(worker), int(number), int(revision)) for worker, number, revision in whole]


async def check(path: Path, program: str) -> None:
    """Kill the program again and again, and look at what it left each time."""
    await (await SqliteStore.create(path)).close()
    chance = random.Random(SEED)
    revision = 0
    for _ in range(ROUNDS):
        said = await run_and_kill(program, path, chance.randrange(1, 400), chance.random() * 0.02)
        store = await SqliteStore.open(path)
        status = await store.status()
        assert status.revision >= max(r for _, _, r in said) > revision
        for worker in range(8):
            numbers = [number for who, number, _ in said if who == worker]
            item = await store.get(b"w%d" % worker)
            if numbers:
                assert numbers == list(range(numbers[0], numbers[-1] + 1))
                assert item is not None
                # At most the one commit that was under way may have happened without being acknowledged.
                assert int(item.value) - numbers[-1] in (0, 1)
                number = int(item.value)
                assert await store.get(b"w%d/%d" % (worker, number % 50)) is not None
        revision = status.revision
        await store.close()


async def test_acknowledged_writes_survive_sigkill(tmp_path: Path) -> None:
    await check(tmp_path / "data.sqlite", PROGRAM)
