# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from support.engines import SqliteEngine
from support.writer_bench import Bench

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from grey.store.interface import Store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    engine = SqliteEngine(tmp_path)
    yield await engine.create()
    await engine.stop()


@pytest.fixture
async def bench(store: Store) -> AsyncIterator[Bench]:
    made = Bench(store)
    await made.history.claim(1)
    made.start()
    yield made
    if made.task is not None and not made.task.done():
        await made.stop()


@pytest.fixture
def quiet() -> Iterator[None]:
    """Log nothing: a model meets thousands of refusals on purpose."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
