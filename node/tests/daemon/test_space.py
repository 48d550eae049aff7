# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Space is given back again and again, whatever the engine says."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest
from support.memory_store import MemoryStore
from support.virtual_time import run_virtual

from grey.daemon.data_engine import SPACE_SECONDS, HasSpace, give_back_space
from grey.store.etcd import EtcdStore
from grey.store.interface import EngineUnreachable, StoreDamaged
from grey.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Sequence


class Engine:
    """Answers what a test chose, then False; notes when it was asked."""

    def __init__(self, answers: Sequence[bool | Exception] = ()) -> None:
        self.answers = list(answers)
        self.asked: list[float] = []

    async def reclaim(self) -> bool:
        self.asked.append(asyncio.get_running_loop().time())
        answer = self.answers.pop(0) if self.answers else False
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_the_engine_is_asked_about_every_minute() -> None:
    async def check() -> None:
        engine = Engine([True, EngineUnreachable("frozen"), False])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await give_back_space(engine)
        pauses = [after - before for before, after in zip([0.0, *engine.asked], engine.asked, strict=False)]
        assert len(pauses) >= 3600 / SPACE_SECONDS[1] - 1
        assert all(SPACE_SECONDS[0] <= pause <= SPACE_SECONDS[1] for pause in pauses)
        assert max(pauses) - min(pauses) > 5  # the members of an engine do not keep step

    run_virtual(check())


def test_damage_ends_it() -> None:
    with pytest.raises(StoreDamaged):
        run_virtual(give_back_space(Engine([StoreDamaged("corrupt")])))


def test_which_engines_need_it() -> None:
    assert isinstance(EtcdStore.__new__(EtcdStore), HasSpace)
    assert not isinstance(SqliteStore.__new__(SqliteStore), HasSpace)
    assert not isinstance(cast("object", MemoryStore()), HasSpace)
