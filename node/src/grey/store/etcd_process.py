# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An etcd beside greyd: what may be started on which data, whether it is well, and how to become it.

The marker file outlives the data folder on purpose. It holds ``{"state": "bootstrapping" | "member"}``:
with ``member`` the data was once part of a healthy majority, and an empty data folder means that it was
lost. A member that lost its data must never start as if it were new: it would vote again on what it
already promised.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

import msgspec

from grey.link.etcd_health import MemberHealth, StoreHealth
from grey.store import etcd_bootstrap
from grey.store.durable import replace_file
from grey.store.etcd_data import MemberRefused, inspect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from grey.store.etcd_bootstrap import Bootstrap
    from grey.store.etcd_data import MemberData

_log = logging.getLogger(__name__)

State = Literal["bootstrapping", "member"]

_POLL_SECONDS = 0.5


class CheckResult(msgspec.Struct, frozen=True):
    """What ``--check-health`` prints. ``changed``: the marker was turned to ``member`` by this check."""

    healthy: bool
    changed: bool
    members: tuple[MemberHealth, ...]


class _Marker(msgspec.Struct, frozen=True):
    state: State


def prepare(member: MemberData) -> Bootstrap | None:
    """Check the member's data against its marker, and make the marker.

    Returns how to begin, None for a member that has data. Raises MemberRefused.
    """
    own = member.own
    state = _read_marker(Path(own.marker_file))
    data = inspect(Path(own.data_dir))
    if data == "foreign":
        raise MemberRefused(
            f"{own.data_dir} must be empty or hold an etcd member (member/wal, member/snap), "
            f"but holds other files: check {member.key}.data_dir in the node's file"
        )
    if state == "member" and data == "empty":
        raise MemberRefused(
            f"{own.marker_file} says that {own.name} is a member of {member.store}, "
            f"but its data in {own.data_dir} is gone. Put the data back; if it is lost for good, "
            "replace the member: remove it from the store (etcdctl member remove), "
            f"delete {own.marker_file}, add it anew"
        )
    if state is None and data == "member":
        _log.warning("adopting the etcd member found in %s: it had no marker file", own.data_dir)
        write_marker(member, "member")
    if data == "member":
        return None
    bootstrap = etcd_bootstrap.load(member)
    if state is None:
        write_marker(member, "bootstrapping")
    return bootstrap


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
    changed = False
    if done and member is not None and _read_marker(Path(member.own.marker_file)) == "bootstrapping":
        write_marker(member, "member")
        changed = True
    return CheckResult(health.majority, changed, health.members)


def takes_part(health: StoreHealth, name: str) -> bool:
    """Whether the member of this name answers and follows a leader."""
    return any(each.name == name and each.reachable and each.has_leader for each in health.members)


def write_marker(member: MemberData, state: State) -> None:
    """Write the marker durably: it is there completely or not at all, also after a power cut."""
    path = Path(member.own.marker_file)
    try:
        # The check may run as root, the member reads the file as its own user.
        replace_file(path, msgspec.json.encode(_Marker(state)), mode=0o644)
    except OSError as fault:
        raise MemberRefused(
            f"{path} cannot be written ({fault}): check its folder's owner, mode and room"
        ) from fault


def _read_marker(path: Path) -> State | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Marker).state
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, OSError) as fault:
        raise MemberRefused(
            f'{path} must hold {{"state": "bootstrapping"}} or {{"state": "member"}}, but cannot be '
            f'read ({fault}): write {{"state": "member"}} into it if this host was '
            "ever a member, else delete it"
        ) from fault
