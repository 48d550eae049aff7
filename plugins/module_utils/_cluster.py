# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The members of an etcd group (a cluster's engine, the federation store), as greyd asks and changes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible_collections.grey.distributed.plugins.module_utils._command import Answer, run
from ansible_collections.grey.distributed.plugins.module_utils._outcome import Change, GreyError, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GROUPS = ("engine", "federation-store")
_REFUSED = 3
_ASK_SECONDS = 30.0
# A group of so many members never goes on without one of them.
_TOO_FEW = 2


@dataclass(frozen=True)
class Member:
    """A member as the group knows it. One that never started has no name yet."""

    name: str
    peer: str
    learner: bool
    reachable: bool

    def __str__(self) -> str:
        shown = self.name or f"a member at {self.peer} that never started"
        return shown + (" (learner)" if self.learner else "") + ("" if self.reachable else " (unreachable)")


class Cluster:
    """One group, as the member on this host sees it."""

    def __init__(self, greyd: str, config: str, group: str, *, user: str, check: bool) -> None:
        self._command = [greyd, group]
        self._config = ["--config", config]
        self._group = group
        self._user = user
        self._check = check

    def healthy(self, wait_seconds: float) -> Outcome:
        """Wait until a majority is healthy and this host's member is part of it, which its marker then says.

        Check mode asks nobody: before the first run there is nobody to ask.
        """
        if self._check:
            return Outcome({"healthy": None, "members": []})
        answer = self._run("--check-health", "--wait", f"{wait_seconds:g}", wait_seconds=wait_seconds)
        if answer.code == _REFUSED:
            raise GreyError(f"{self._group}: the state on this host was refused: {answer.said()}", members=[])
        said = answer.object() if answer.output.strip() else {}
        members = list(said.get("members", []))
        if answer.code != 0 or not said.get("healthy"):
            raise GreyError(
                f"{self._group}: wanted a healthy majority within {wait_seconds:g} s, found "
                f"{_problems(members) or answer.said()}; look at its log on the members (one whose data is "
                "gone is refused until it is replaced: scale.yml -e replace=NAME)",
                members=members,
            )
        outcome = Outcome({"healthy": True, "members": members})
        if said.get("changed"):
            outcome.add(Change(self._group, "bootstrapping", "member"))
        return outcome

    def members(self) -> list[Member]:
        """Return the members that the group has now."""
        return _listed(self._members())

    def admit(self, wanted: Mapping[str, str], name: str, token: str) -> Outcome:
        """Take a host in that has no data yet, as a learner; return what it has to begin with.

        ``wanted`` has all members that there should be, by name, with their peer addresses. A host that is a
        member already was interrupted before it was confirmed; if it lost its data, greyd refuses its start.
        """
        peer = wanted[name]
        said = self._members()
        found = _listed(said)
        _refuse_strangers(self._group, found, wanted)
        mine = next((each for each in found if each.peer == peer), None)
        present = {each.name: each.peer for each in found if each.name}
        bootstrap: dict[str, Any] = {"state": "existing", "token": token, "members": {**present, name: peer}}
        if said.get("heartbeat") is not None:
            bootstrap["heartbeat"] = said["heartbeat"]
        outcome = Outcome({"bootstrap": bootstrap})
        if mine is None:
            outcome.add(Change(f"{self._group}: {name}", "", f"learner at {peer}"))
            if not self._check:
                self._change("add", "--name", name, "--peer", peer)
        return outcome

    def promote(self, name: str, wait_seconds: float) -> Outcome:
        """Let a learner vote, once it has caught up."""
        outcome = Outcome()
        found = next((each for each in self.members() if each.name == name), None)
        if found is None:
            if self._check:
                return outcome
            raise GreyError(
                f"{self._group}: wanted the member {name}, which has started, found none of that name"
            )
        if found.learner:
            outcome.add(Change(f"{self._group}: {name}", "learner", "voting member"))
            if not self._check:
                self._change(
                    "promote", "--name", name, "--wait", f"{wait_seconds:g}", wait_seconds=wait_seconds
                )
        return outcome

    def remove(self, peers: Mapping[str, str], *, only_lost: bool) -> Outcome:
        """Remove members, one after the other. ``peers`` has the address of each by name.

        With ``only_lost`` those that answer stay; they are named in ``kept``.
        """
        outcome = Outcome({"kept": []})
        for name, peer in peers.items():
            found = next((each for each in self.members() if name == each.name or peer == each.peer), None)
            if found is None:
                continue
            if only_lost and found.reachable:
                outcome.result["kept"].append(name)
                continue
            outcome.add(Change(f"{self._group}: {name}", str(found), ""))
            if not self._check:
                known = ("--name", found.name) if found.name else ("--peer", found.peer)
                self._change("remove", *known)
        return outcome

    def spare(self, name: str) -> Outcome:
        """Refuse unless a majority answers without a member that is about to restart."""
        voters = [each for each in self.members() if not each.learner]
        own = next((each for each in voters if each.name == name), None)
        others = [each for each in voters if each is not own]
        answering = [each for each in others if each.reachable]
        needed = len(voters) // 2 + 1
        if own is not None and own.reachable and len(voters) > _TOO_FEW and len(answering) < needed:
            silent = [each for each in others if not each.reachable]
            raise GreyError(
                f"{self._group}: wanted {needed} of {len(voters)} voting members to answer while {name} "
                f"restarts, found {_names(answering)}, and no answer from {_names(silent)}; start them "
                "first, then run again"
            )
        return Outcome()

    def forget(self) -> Outcome:
        """Move the data of this host's former member aside, so that the host can join anew."""
        outcome = Outcome({"moved": []})
        if self._check:
            return outcome
        answer = self._run("forget")
        if answer.code != 0:
            raise GreyError(
                f"{self._group}: wanted this host to forget its former member, found exit {answer.code}: "
                f"{answer.said()}"
            )
        outcome.result["moved"] = list(answer.object()["moved"])
        for path in outcome.result["moved"]:
            outcome.add(Change(path, "data of a former member", "moved aside"))
        return outcome

    def _members(self) -> dict[str, Any]:
        answer = self._run("members")
        if answer.code != 0:
            raise GreyError(
                f"{self._group}: wanted the list of its members, found exit {answer.code}: {answer.said()}"
            )
        return answer.object()

    def _change(self, verb: str, *arguments: str, wait_seconds: float = 0.0) -> None:
        answer = self._run(verb, *arguments, wait_seconds=wait_seconds)
        if answer.code != 0:
            raise GreyError(
                f"{self._group}: wanted to {verb} {arguments[1]}, found exit {answer.code}: {answer.said()}"
            )

    def _run(self, *arguments: str, wait_seconds: float = 0.0) -> Answer:
        return run(
            [*self._command, *arguments, *self._config],
            timeout_seconds=wait_seconds + _ASK_SECONDS,
            user=self._user,
        )


def _listed(said: Mapping[str, Any]) -> list[Member]:
    return [
        Member(each["name"], each["peer"], bool(each["learner"]), bool(each["reachable"]))
        for each in said["members"]
    ]


def _names(members: Sequence[Member]) -> str:
    return ", ".join(each.name or each.peer for each in members) or "nobody"


def _refuse_strangers(group: str, found: Sequence[Member], wanted: Mapping[str, str]) -> None:
    strangers = [each for each in found if each.peer not in wanted.values()]
    if strangers:
        raise GreyError(
            f"{group}: wanted members of the inventory only, found {', '.join(map(str, strangers))}; remove "
            "them first: scale.yml -e remove=NAME, or put them back into the inventory"
        )


def _problems(members: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(
        f"{member.get('endpoint', 'a member')}: {member.get('problem') or 'healthy'}" for member in members
    )
