# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who an etcd group's members are, as one says on its peer port: where etcd itself asks when it joins.

It needs the certificate of a member, but no etcd here, and no majority there.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import msgspec

from grey.link.etcd_fault import MemberFault
from grey.link.tls import TlsError, client_context

if TYPE_CHECKING:
    from collections.abc import Iterable

    from grey.link.tls import TlsFiles

_SCHEME = "https://"


class Listed(msgspec.Struct, frozen=True):
    """A member in a list; ``peer`` is ``ADDRESS:PORT``.

    ``name`` is empty for one that was added and never ran; one with which the group began has its name from
    the beginning. ``ran``: it ran as a member.
    """

    id: int
    name: str
    peer: str
    ran: bool


class PeerList(msgspec.Struct, frozen=True):
    """What one member says: the group's id, and its members. It may be behind."""

    cluster_id: int
    members: tuple[Listed, ...]


class _Member(msgspec.Struct, frozen=True):
    id: int
    name: str = ""
    peer_urls: list[str] = msgspec.field(name="peerURLs", default_factory=list)
    client_urls: list[str] = msgspec.field(name="clientURLs", default_factory=list)


async def ask_peers(peers: Iterable[str], tls: TlsFiles, timeout_seconds: float) -> dict[str, PeerList | str]:
    """Ask the members at these endpoints at the same time; return a list, or what went wrong, for each."""
    asked = list(peers)
    try:
        context = client_context(tls)
    except TlsError as fault:
        return dict.fromkeys(asked, str(fault))
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context, limit=0),
        timeout=aiohttp.ClientTimeout(total=timeout_seconds),
    ) as session:
        answers = await asyncio.gather(*(_ask(session, peer) for peer in asked))
    return dict(zip(asked, answers, strict=True))


async def _ask(session: aiohttp.ClientSession, peer: str) -> PeerList | str:
    try:
        async with session.get(f"{_SCHEME}{peer}/members", raise_for_status=True) as answer:
            return decode(await answer.read(), answer.headers.get("X-Etcd-Cluster-ID", ""))
    except TimeoutError:
        return "no answer in time"
    except (aiohttp.ClientError, OSError, MemberFault) as fault:
        return str(fault) or type(fault).__name__


def decode(page: bytes, cluster_id: str) -> PeerList:
    """Read an answer; raises MemberFault."""
    try:
        found = msgspec.json.decode(page, type=list[_Member])
        return PeerList(
            int(cluster_id, 16),
            tuple(Listed(each.id, each.name, _peer(each), bool(each.client_urls)) for each in found),
        )
    except (msgspec.DecodeError, ValueError) as fault:
        raise MemberFault(
            f"what it says of its members cannot be read: {fault}", carried_out=False
        ) from fault


def _peer(member: _Member) -> str:
    return next(iter(member.peer_urls), "").removeprefix(_SCHEME)
