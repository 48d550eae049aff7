# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proves the checkers of calls and watches: each known fault, planted into the code, must be caught."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from client.test_simulation import WATCHES, WRITES, check_a_watch, check_a_write
from support.planted import must_be_caught

from grey.client import call, requests
from grey.client.watch import Watch
from grey.record.position import Position

if TYPE_CHECKING:
    from collections.abc import Callable

    from grey.client.errors import GreyError
    from grey.client.model import Event
    from grey.client.sse import Message
    from grey.client.transport import Request

    Plant = Callable[[pytest.MonkeyPatch], None]


def broken_connection_leaves_no_doubt(patch: pytest.MonkeyPatch) -> None:
    def gone(self: call._Call, *arguments: Any, **options: Any) -> None:
        before = self._maybe_done
        shipped(self, *arguments, **options)
        self._maybe_done = before

    shipped = call._Call._gone
    patch.setattr(call._Call, "_gone", gone)


def final_refusal_ends_a_doubt(patch: pytest.MonkeyPatch) -> None:
    def known(self: call._Call, error: GreyError) -> GreyError:
        return error

    patch.setattr(call._Call, "_known", known)


def fault_of_a_node_taken_for_a_refusal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(call, "_NOTHING_DONE", call._NOTHING_DONE | {"outcome_unknown"})


def time_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(call._Call, "_in_time", lambda self, pause_seconds=0.0: True)


def goes_on_from_now(patch: pytest.MonkeyPatch) -> None:
    def watch(prefix: bytes, *, after: Position | None, values: bool) -> Request:
        return shipped(prefix, after=None if after and after.sequence else after, values=values)

    shipped = requests.watch
    patch.setattr(requests, "watch", watch)


def half_a_message_kept_for_the_next_connection(patch: pytest.MonkeyPatch) -> None:
    async def opened(self: Watch) -> None:
        parser = self._parser
        await shipped(self)
        self._parser = parser

    shipped = Watch._open
    patch.setattr(Watch, "_open", opened)


def what_was_told_is_told_again(patch: pytest.MonkeyPatch) -> None:
    async def advance(self: Watch) -> None:
        await shipped(self)
        if any(not isinstance(event, Position) for event in self._ready):
            self._position = Position(0, 0)

    shipped = Watch._advance
    patch.setattr(Watch, "_advance", advance)


def progress_before_the_changes_it_follows(patch: pytest.MonkeyPatch) -> None:
    def take(self: Watch, message: Message) -> None:
        shipped(self, message)
        if message.event == "progress":
            self._reach(Position.parse(message.id))

    shipped = Watch._take
    patch.setattr(Watch, "_take", take)


def change_lost_when_a_wait_is_given_up(patch: pytest.MonkeyPatch) -> None:
    async def following(self: Watch) -> Event:
        try:
            return await shipped(self)
        except BaseException:
            self._drop()
            self._position = None if self._position is None else Position(1, self._position.sequence + 1)
            raise

    shipped = Watch.__anext__
    patch.setattr(Watch, "__anext__", following)


@pytest.mark.mutants
@pytest.mark.parametrize(
    "plant",
    [
        broken_connection_leaves_no_doubt,
        final_refusal_ends_a_doubt,
        fault_of_a_node_taken_for_a_refusal,
        time_not_looked_at,
    ],
    ids=lambda plant: plant.__name__,
)
def test_the_simulated_writes_catch(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    must_be_caught(plant.__name__, lambda: [check_a_write(seed) for seed in WRITES] and None)


@pytest.mark.mutants
@pytest.mark.parametrize(
    "plant",
    [
        goes_on_from_now,
        half_a_message_kept_for_the_next_connection,
        what_was_told_is_told_again,
        progress_before_the_changes_it_follows,
        change_lost_when_a_wait_is_given_up,
    ],
    ids=lambda plant: plant.__name__,
)
def test_the_simulated_watches_catch(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    must_be_caught(plant.__name__, lambda: [check_a_watch(seed) for seed in WATCHES] and None)
