# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An etcd beside greyd: what may be started on which data, whether it is well, and how to become it."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec

from grey.link.etcd_health import MemberHealth, StoreHealth
from grey.store import etcd_bootstrap, etcd_join, etcd_marker, etcd_wal
from grey.store.etcd_data import MemberRefused, inspect
from grey.store.etcd_marker import Marker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from grey.link.etcd_listed import PeerList
    from grey.store.etcd_bootstrap import Bootstrap
    from grey.store.etcd_data import MemberData

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5

ASK_SECONDS = 2.0
"""How long a start waits for the other members' word; it goes on without, unless it must join them."""


class CheckResult(msgspec.Struct, frozen=True):
    """What ``--check-health`` prints. ``changed``: the marker was turned to ``member`` by this check."""

    healthy: bool
    changed: bool
    members: tuple[MemberHealth, ...]


def prepare(member: MemberData) -> Bootstrap | None:
    """Check the member's data against its marker and the other members' word, and make the marker.

    Returns how to begin, None for a member that has data. Raises MemberRefused.
    """
    own = member.own
    marker = etcd_marker.read(member)
    data = inspect(Path(own.data_dir))
    if data == "foreign":
        raise MemberRefused(
            f"{own.data_dir} must be empty or hold an etcd member (member/wal, member/snap), "
            f"but holds other files: check {member.key}.data_dir in the node's file"
        )
    if marker is not None and marker.state == "member" and data == "empty":
        raise MemberRefused(
            f"{own.marker_file} says that {own.name} is a member of {member.store}, "
            f"but its data in {own.data_dir} is gone. {etcd_join.replace(member)}"
        )
    if data == "member":
        _refuse_removed(member, marker)
        if marker is None:
            _log.warning("adopting the etcd member found in %s: it had no marker file", own.data_dir)
            etcd_marker.write(member, Marker("member"))
        return None
    bootstrap = etcd_bootstrap.load(member)
    bootstrap = etcd_join.begin(member, bootstrap, ask_others(member, marker))
    if marker is None:
        etcd_marker.write(member, Marker("bootstrapping"))
    return bootstrap


def ask_others(member: MemberData, marker: Marker | None) -> dict[str, PeerList | str]:
    """Ask the other members, as far as this host knows them, who the members are."""
    # Imported here: most of what is done with members needs no HTTP.
    from grey.link.etcd_listed import ask_peers

    known = dict.fromkeys([*(marker.peers if marker else ()), *etcd_bootstrap.others(member)])
    return asyncio.run(ask_peers(known, member.own.tls, ASK_SECONDS)) if known else {}


def _refuse_removed(member: MemberData, marker: Marker | None) -> None:
    own = member.own
    held = etcd_wal.identity(Path(own.data_dir))
    if held is not None and etcd_join.removed(held, ask_others(member, marker)):
        raise MemberRefused(
            f"{own.name} was removed from {member.store}, and the data in {own.data_dir} is that of the "
            f"former member. To join anew: {member.command} forget here, which moves it aside, then "
            f"{member.command} add --name {own.name} --peer {own.peer} on the host of a member"
        )


def become(command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Replace this process by etcd. Raises OSError.

    etcd takes settings from the environment too; what this process happened to inherit is none of them.
    """
    kept = {name: value for name, value in environment.items() if not name.startswith("ETCD_")}
    if platform.machine() == "aarch64":
        # etcd before 3.5 starts there only when it is told that this is meant.
        kept["ETCD_UNSUPPORTED_ARCH"] = "arm64"
    os.execve(command[0], list(command), kept)  # noqa: S606 - the paths are those of the checked node's file


async def check_health(
    ask: Callable[[], Awaitable[StoreHealth]], *, member: MemberData | None, wait_seconds: float = 0.0
) -> CheckResult:
    """Ask until a majority is healthy and the local member (if any) is part of it, or time is over.

    Turns the marker of the local member from ``bootstrapping`` to ``member`` then. Raises MemberRefused for a
    marker that cannot be read or written.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_seconds
    while True:
        health = await ask()
        done = health.majority and (member is None or takes_part(health, member.own.name))
        left = deadline - loop.time()
        if done or left <= 0:
            break
        await asyncio.sleep(min(_POLL_SECONDS, left))
    changed = done and member is not None and _note(member, health)
    return CheckResult(health.majority, changed, health.members)


def _note(member: MemberData, health: StoreHealth) -> bool:
    """Note in the marker that this is a member, and who the others are; say whether it became one."""
    before = etcd_marker.read(member)
    if before is None:
        return False
    peers = sorted(peer for name, peer in health.peers.items() if name != member.own.name)
    after = Marker("member", tuple(peers))
    if before != after:
        etcd_marker.write(member, after)
    return before.state != "member"


def takes_part(health: StoreHealth, name: str) -> bool:
    """Whether the member of this name answers and follows a leader."""
    return any(each.name == name and each.reachable and each.has_leader for each in health.members)
