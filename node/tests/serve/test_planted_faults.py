# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proves the checks of the API: each known fault, planted into the shipping code, must be caught."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from grey.serve import kv, parameters
from grey.serve.encoding import Unpacker
from grey.serve.protocol import Connection
from grey.serve.watch import Watches

from . import test_conditions, test_drain, test_gzip, test_kv_faults, test_watch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from support.serving import Serving

    Check = Callable[[Serving], Awaitable[None]]
    Plant = Callable[[pytest.MonkeyPatch], None]


def close_not_announced(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Connection, "stays_open", property(lambda _: True))


def condition_overlooked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(parameters, "put_condition", lambda _: None)


def condition_of_a_batch_dropped(patch: pytest.MonkeyPatch) -> None:
    shipped = parameters._operation

    def without(what: str, wanted: object) -> object:
        wanted.if_position = None  # type: ignore[attr-defined]
        return shipped(what, wanted)  # type: ignore[arg-type]

    patch.setattr(parameters, "_operation", without)


def snapshot_dropped_from_the_token(patch: pytest.MonkeyPatch) -> None:
    shipped = parameters.token
    patch.setattr(parameters, "token", lambda key, _: shipped(key, None))


def unpacked_without_a_limit(patch: pytest.MonkeyPatch) -> None:
    shipped = Unpacker.__init__
    patch.setattr(Unpacker, "__init__", lambda self, _, what: shipped(self, 10**12, what))


def fence_not_asked_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kv.KeyValueApi, "_confirm", lambda _: None)


def watches_not_ended(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Watches, "end", lambda *_: None)


@pytest.mark.mutants
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("plant", "check"),
    [
        (close_not_announced, test_drain.no_request_fails),
        (condition_overlooked, test_conditions.test_put_if_absent),
        (condition_of_a_batch_dropped, test_conditions.test_a_batch_with_conditions),
        (snapshot_dropped_from_the_token, test_conditions.test_all_pages_show_one_state),
        (unpacked_without_a_limit, test_gzip.test_a_bomb_is_refused_at_the_limit),
        (fence_not_asked_again, test_kv_faults.test_a_deadline_that_passes_between_the_commit_and_the_answer),
        (watches_not_ended, test_watch.test_watches_end_when_the_node_stops),
    ],
)
async def test_planted(node: Serving, monkeypatch: pytest.MonkeyPatch, plant: Plant, check: Check) -> None:
    began = time.perf_counter()
    plant(monkeypatch)
    with pytest.raises((AssertionError, KeyError)):
        await check(node)
    seconds = time.perf_counter() - began
    print(f"{plant.__name__}: caught in {seconds:.2f} s by {check.__name__}")  # noqa: T201 - `make mutants` shows it
    monkeypatch.undo()
