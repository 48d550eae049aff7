# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import asyncio

import pytest

from grey.federation import records
from grey.federation.interface import FederationStoreError, MemberReport, RoleRecord
from grey.federation.remote_store import RemoteFederationStore, Reply, SwapRefused, TransportError
from grey.record.position import Position

ROLE = RoleRecord("a", 2, 5, "a-1")
REPORT = MemberReport("edge", "edge-1", 3, 1, Position(1, 2), 0.1, 0, 1.0, "serving", 1e9)


class Voters:
    """Control planes that answer as told; a missing one hangs."""

    def __init__(self, **replies: Reply | Exception) -> None:
        self.replies = replies
        self.asked: list[tuple[str, str, str, bytes | None]] = []

    async def __call__(
        self, cluster: str, method: str, path: str, body: bytes | None, *, timeout_seconds: float
    ) -> Reply:
        self.asked.append((cluster, method, path, body))
        reply = self.replies.get(cluster)
        if reply is None:
            await asyncio.sleep(60)
        if isinstance(reply, Exception):
            raise reply
        assert reply is not None
        return reply


def store(voters: Voters) -> RemoteFederationStore:
    return RemoteFederationStore(["a", "b"], voters, timeout_seconds=0.4)


async def test_the_role_is_read_and_its_version_grows_with_it() -> None:
    voters = Voters(a=Reply(200, records.encode(ROLE)))
    first = await store(voters).get("role")
    assert first is not None
    assert records.decode_role(first.value) == ROLE
    assert voters.asked == [("a", "GET", "/v1/federation/role", None)]
    for later in (RoleRecord("a", 2, 6, "a-1"), RoleRecord("b", 3, 0, "b-1")):
        second = await store(Voters(a=Reply(200, records.encode(later)))).get("role")
        assert second is not None
        assert second.version > first.version


async def test_no_role_yet() -> None:
    assert await store(Voters(a=Reply(404, b"{}"))).get("role") is None


async def test_the_next_voter_is_asked_and_remembered() -> None:
    voters = Voters(a=TransportError("connection refused"), b=Reply(200, records.encode(ROLE)))
    remote = store(voters)
    assert await remote.get("role") is not None
    assert await remote.get("role") is not None
    assert [each[0] for each in voters.asked] == ["a", "b", "b"]


async def test_a_hung_voter_costs_its_patience_only() -> None:
    remote = store(Voters(b=Reply(200, records.encode(ROLE))))
    assert await remote.get("role") is not None


async def test_all_voters_are_named_when_none_answers() -> None:
    remote = store(Voters(a=TransportError("connection refused"), b=Reply(503, b"starting")))
    with pytest.raises(FederationStoreError) as error:
        await remote.get("role")
    assert "a: connection refused" in str(error.value)
    assert "b: answered 503 starting" in str(error.value)


async def test_reports_are_listed_and_the_own_one_is_sent() -> None:
    voters = Voters(a=Reply(200, b'{"edge":' + records.encode(REPORT) + b"}"))
    listed = await store(voters).list("members/")
    assert list(listed) == ["members/edge"]
    assert records.decode_report("members/edge", listed["members/edge"].value) == REPORT
    assert await store(voters).get("members/none") is None
    assert await store(voters).get("members/edge") == listed["members/edge"]

    voters = Voters(a=Reply(204, b""))
    await store(voters).put("members/edge", records.encode(REPORT))
    assert voters.asked == [("a", "PUT", "/v1/federation/members/edge", records.encode(REPORT))]


async def test_shared_records_cannot_be_changed() -> None:
    voters = Voters()
    with pytest.raises(SwapRefused, match="no vote"):
        await store(voters).swap("role", b"x", expected=None)
    with pytest.raises(SwapRefused, match="no vote"):
        await store(voters).put("role", b"x")
    with pytest.raises(FederationStoreError, match="cannot read"):
        await store(voters).list("clusters/")
    assert voters.asked == []


@pytest.mark.parametrize("body", [b"", b"{", b'{"cluster": 1}', b"[]"])
async def test_an_answer_that_cannot_be_read_is_an_error(body: bytes) -> None:
    with pytest.raises(FederationStoreError, match="cannot be read"):
        await store(Voters(a=Reply(200, body))).get("role")
    with pytest.raises(FederationStoreError):
        await store(Voters(a=Reply(200, b"[1]"))).list("members/")
