# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves the data of a former member aside, so that its host can join anew. Nothing is deleted."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from grey.store import etcd_marker, etcd_process, etcd_wal
from grey.store.durable import sync
from grey.store.etcd_data import MemberRefused, NobodyAnswers
from grey.store.etcd_join import lists_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from grey.link.etcd_listed import PeerList
    from grey.store.etcd_data import MemberData
    from grey.store.etcd_wal import Identity


class Forgotten(msgspec.Struct, frozen=True):
    """What ``forget`` prints: the new names of what was moved."""

    changed: bool
    moved: tuple[str, ...]


def forget(member: MemberData, *, force: bool = False, now: float | None = None) -> Forgotten:
    """Move data folder and marker aside, unless the others say that this still is a member.

    ``force`` does not ask them: for a group that is gone. Raises MemberRefused.
    """
    own = member.own
    data, marker = Path(own.data_dir), Path(own.marker_file)
    # The data first: a marker without data is refused at the next start, data without one would be adopted.
    there = [path for path in (data, marker) if path.exists()]
    if not there or not (marker.exists() or any(data.iterdir())):
        return Forgotten(changed=False, moved=())
    _require_stopped(data)
    if not force:
        _require_removed(member)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    return Forgotten(changed=True, moved=tuple(_move(path, stamp) for path in there))


def still_member(member: MemberData, held: Identity | None, answers: Mapping[str, PeerList | str]) -> bool:
    """Whether one of the others knows this host's member. Without data, its peer says which that is."""
    entries = [
        entry
        for each in lists_of(answers)
        for entry in each.members
        if held is None or each.cluster_id == held.cluster_id
    ]
    if held is not None:
        return any(entry.id == held.member_id for entry in entries)
    return any(entry.peer == str(member.own.peer) and entry.ran for entry in entries)


def _require_stopped(data: Path) -> None:
    database = data / "member" / "snap" / "db"
    try:
        with database.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return
    except BlockingIOError as fault:
        raise MemberRefused(f"etcd still runs on {data}: stop it first") from fault
    except OSError as fault:
        raise MemberRefused(f"{database} cannot be looked at ({fault}): check its owner and mode") from fault


def _require_removed(member: MemberData) -> None:
    own = member.own
    held = etcd_wal.identity(Path(own.data_dir))
    answers = etcd_process.ask_others(member, etcd_marker.read(member))
    if not lists_of(answers):
        said = "; ".join(f"{peer}: {answer}" for peer, answer in answers.items()) or "none is known here"
        raise NobodyAnswers(
            f"whether {own.name} still is a member of {member.store} must be known first, but none of the "
            f"others answers ({said}). Start them; if the whole group is gone: "
            f"{member.command} forget --force"
        )
    if still_member(member, held, answers):
        raise MemberRefused(
            f"{own.name} still is a member of {member.store}: remove it first, on the host of another one "
            f"({member.command} remove --name {own.name})"
        )


def _move(path: Path, stamp: str) -> str:
    target = path.with_name(f"{path.name}.removed-{stamp}")
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.removed-{stamp}-{number}")
    try:
        path.rename(target)
        sync(path.parent)
    except OSError as fault:
        raise MemberRefused(
            f"{path} cannot be moved to {target.name} ({fault}): check the folder's owner; when {path} is a "
            "mount point, move what it holds yourself"
        ) from fault
    return str(target)
