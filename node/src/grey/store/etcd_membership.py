# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which change of an etcd group's members is safe: the decisions, without a clock or a connection.

One change at a time; never below a majority of voting members that answer; never the last one. A member comes
as a learner, which copies the data and does not vote, and votes once it has caught up, so that a host that
never starts costs the group nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

from grey.link.etcd_group import GroupMember, View

if TYPE_CHECKING:
    from collections.abc import Iterable


class ChangeRefused(Exception):
    """The change is not safe, or not possible now; the message says why and the next step."""


class Nothing(msgspec.Struct, frozen=True):
    """The group is as it should be."""


class Wait(msgspec.Struct, frozen=True):
    """It cannot be done yet; ``why`` is said when the time is over."""

    why: str


class Add(msgspec.Struct, frozen=True):
    """Take in a learner."""

    peer: str


class Promote(msgspec.Struct, frozen=True):
    """Let a learner vote."""

    member: GroupMember


class Remove(msgspec.Struct, frozen=True):
    """Let a member go; ``successor`` should lead instead, where it is the leader."""

    member: GroupMember
    successor: GroupMember | None = None


Step: TypeAlias = Nothing | Wait | Add | Promote | Remove


def majority(voters: int) -> int:
    """Return how many of so many voting members are needed."""
    return voters // 2 + 1


def healthy(view: View) -> bool:
    """Whether the group has a leader, and a majority of its voting members answers."""
    voters = [each for each in view.members if not each.learner]
    return (
        view.problem is None
        and any(each.leader for each in voters)
        and sum(each.reachable for each in voters) >= majority(len(voters))
    )


def decide_add(view: View, name: str, peer: str, *, command: str) -> Step:
    """Say what has to be done so that ``name`` is a member at ``peer``.

    ``command`` begins the commands that messages name, for example ``greyd engine``. Raises ChangeRefused.
    """
    for each in view.members:
        if each.peer == peer and each.name in (name, None):
            return Nothing()
        if each.peer == peer:
            raise ChangeRefused(
                f"{peer} is the peer of {each.name}, and cannot be that of {name} too: give {name} its own, "
                f"or remove {each.name} first ({command} remove --name {each.name})"
            )
        if each.name == name:
            raise ChangeRefused(
                f"{name} is a member with the peer {each.peer}, not {peer}. A member does not move: replace "
                f"it ({command} remove --name {name}, {command} forget on its host, then add it with {peer})"
            )
    if (unready := _unready(view)) is not None:
        return unready
    for each in view.members:
        if each.learner or each.name is None:
            raise ChangeRefused(
                f"one change at a time: {_pending(each)}. Finish it ({command} promote"
                f"{f' --name {each.name}' if each.name else ', once it runs'}), or take it back "
                f"({command} remove --{f'name {each.name}' if each.name else f'peer {each.peer}'})"
            )
    silent = [each for each in view.members if not each.reachable]
    if silent:
        raise ChangeRefused(
            f"{_names(silent)} does not answer, and a group that misses a voting member takes in no other: "
            f"start it, or remove it first ({command} remove --name {silent[0].name})"
        )
    return Add(peer)


def decide_promote(view: View, name: str) -> Step:
    """Say what has to be done so that ``name`` votes. Raises ChangeRefused."""
    found = _find(view, name=name)
    if found is None:
        unstarted = [each for each in view.members if each.name is None]
        if unstarted:
            return Wait(f"{name} is not a member yet, and {_pending(unstarted[0])}: start it on its host")
        raise ChangeRefused(f"{name} is not a member ({_names(view.members)}): add it first")
    if not found.learner:
        return Nothing()
    if view.problem is not None:
        return Wait(view.problem)
    if not found.reachable:
        return Wait(f"{name} does not answer at {found.peer}: start it on its host")
    return Promote(found)


def decide_remove(view: View, *, name: str | None = None, peer: str | None = None) -> Step:
    """Say what has to be done so that no member has this name, or this peer. Raises ChangeRefused."""
    found = _find(view, name=name, peer=peer)
    if found is None:
        return Nothing()
    if (unready := _unready(view)) is not None:
        return unready
    if found.learner:
        return Remove(found)
    rest = [each for each in view.members if not each.learner and each.id != found.id]
    if not rest:
        raise ChangeRefused(
            f"{_called(found)} is the last voting member: without it the data is gone for everybody"
        )
    answering = [each for each in rest if each.reachable]
    if len(answering) < majority(len(rest)):
        silent = [each for each in rest if not each.reachable]
        raise ChangeRefused(
            f"without {_called(found)} only {len(answering)} of {len(rest)} voting members would answer, and "
            f"{majority(len(rest))} are needed: {_names(silent)} must be started, or removed, first"
        )
    return Remove(found, answering[0] if found.leader else None)


def _find(view: View, *, name: str | None = None, peer: str | None = None) -> GroupMember | None:
    """Return the member that has the name, or else the peer. One that never ran has no name."""
    by_name = [each for each in view.members if name is not None and each.name == name]
    by_peer = [each for each in view.members if peer is not None and each.peer == peer]
    if name is not None and by_peer and by_peer[0].name not in (None, name):
        raise ChangeRefused(f"{peer} is the peer of {by_peer[0].name}, not of {name}: correct one of them")
    return next(iter(by_name + by_peer), None)


def _unready(view: View) -> Wait | None:
    """Return why the members cannot be changed now, None when they can. Without a majority: ChangeRefused."""
    voters = [each for each in view.members if not each.learner]
    silent = [each for each in voters if not each.reachable]
    if len(voters) - len(silent) < majority(len(voters)):
        raise ChangeRefused(
            f"the group has no majority, so that its members cannot be changed: {len(voters) - len(silent)} "
            f"of {len(voters)} voting members answer. Start {_names(silent)}"
        )
    # A majority that answers elects within seconds.
    return None if view.problem is None else Wait(f"the group has no leader now ({view.problem})")


def _pending(member: GroupMember) -> str:
    if member.name is None:
        return f"the member with the peer {member.peer} never started"
    return f"{member.name} does not vote yet"


def _called(member: GroupMember) -> str:
    return member.name or f"the member with the peer {member.peer}"


def _names(members: Iterable[GroupMember]) -> str:
    return ", ".join(map(_called, members)) or "none"
