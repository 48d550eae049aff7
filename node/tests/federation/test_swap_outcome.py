# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a swap may say when some of its attempts were lost."""

from __future__ import annotations

import asyncio

import pytest

from grey.config.model import TlsFiles
from grey.federation.etcd_store import EtcdFederationStore
from grey.federation.interface import FederationStoreError
from grey.link.etcd_fault import MemberFault

LOST = MemberFault("connection lost", carried_out=None)
NOT_SENT = MemberFault("connection refused", carried_out=False)


class Scripted:
    def __init__(self, endpoint: str, seconds: float, outcome: bool | MemberFault) -> None:
        self.endpoint = endpoint
        self.seconds = seconds
        self.outcome = outcome

    async def ask(self, call: object, *, timeout_seconds: float) -> bool:
        await asyncio.sleep(self.seconds)
        if isinstance(self.outcome, MemberFault):
            raise self.outcome
        return self.outcome


async def swap(*members: Scripted) -> bool:
    store = EtcdFederationStore(
        "test", [each.endpoint for each in members], TlsFiles("/c", "/k", "/a"), timeout_seconds=0.4
    )
    store._members = list(members)  # type: ignore[arg-type]
    return await store.swap("role", b"x", expected=3)


async def test_one_yes_is_enough_whatever_the_other_attempts_say() -> None:
    assert await swap(Scripted("a", 0.0, LOST), Scripted("b", 0.0, outcome=True))
    assert await swap(Scripted("a", 0.25, outcome=True), Scripted("b", 0.0, outcome=False))


async def test_a_no_counts_when_no_other_attempt_can_have_written() -> None:
    assert not await swap(Scripted("a", 0.0, outcome=False))
    assert not await swap(Scripted("a", 0.0, NOT_SENT), Scripted("b", 0.0, outcome=False))
    assert not await swap(Scripted("a", 0.2, outcome=False), Scripted("b", 0.0, outcome=False))


async def test_a_no_that_a_lost_attempt_may_explain_is_unknown() -> None:
    with pytest.raises(FederationStoreError, match="unknown"):
        await swap(Scripted("a", 0.0, LOST), Scripted("b", 0.0, outcome=False))
    with pytest.raises(FederationStoreError, match="unknown"):
        await swap(Scripted("a", 60.0, outcome=False), Scripted("b", 0.0, outcome=False))


async def test_no_answer_at_all_is_unknown() -> None:
    with pytest.raises(FederationStoreError, match="a: connection lost") as error:
        await swap(Scripted("a", 0.0, LOST))
    assert "unknown" in str(error.value)
