# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.engines import EtcdEngine, MemoryEngine, SqliteEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from support.engines import Engine

    from grey.store.interface import Store

ENGINES: dict[str, Callable[[Path], Engine]] = {
    "sqlite": SqliteEngine,
    "memory": lambda _: MemoryEngine(),
    "etcd": lambda _: EtcdEngine(),
    "etcd-tls": lambda _: EtcdEngine(tls=True),
}


# The socket is what clusters use; that TLS makes no difference is proved with all processes.
@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.processes if "tls" in name else ()) for name in ENGINES]
)
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    made = ENGINES[request.param](tmp_path)
    yield made
    await made.stop()


@pytest.fixture
async def store(engine: Engine) -> Store:
    return await engine.create()
