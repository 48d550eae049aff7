# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.engines import MemoryEngine, SqliteEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.engines import Engine

    from grey.store.interface import Store


@pytest.fixture(params=["sqlite", "memory"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    made: Engine = SqliteEngine(tmp_path) if request.param == "sqlite" else MemoryEngine()
    yield made
    await made.stop()


@pytest.fixture
async def store(engine: Engine) -> Store:
    return await engine.create()
