# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the other members say before this host's member starts: that it may join, or that it was removed.

etcd itself would end, with a line in its log. The decisions are pure; ``etcd_process`` asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grey.config import values
from grey.link.etcd_listed import PeerList
from grey.store.etcd_bootstrap import Bootstrap
from grey.store.etcd_data import MemberRefused, NobodyAnswers
from grey.store.etcd_membership import majority

if TYPE_CHECKING:
    from collections.abc import Mapping

    from grey.link.etcd_listed import Listed
    from grey.store.etcd_data import MemberData
    from grey.store.etcd_wal import Identity


def begin(member: MemberData, bootstrap: Bootstrap, answers: Mapping[str, PeerList | str]) -> Bootstrap:
    """Return how a member without data begins, in the group as it is now, whatever the file said once.

    ``answers`` are those of the other members that the file names, by their peers. A ``new`` group that runs
    already is joined by one that was added to it. Raises MemberRefused.
    """
    own = member.own
    lists = lists_of(answers)
    if not lists and bootstrap.state == "new":
        return bootstrap
    if not lists:
        raise NobodyAnswers(
            f"{own.name} shall join {member.store}, but none of its members answers ({_said(answers)}): "
            f"start them, or correct the members in {own.bootstrap_file}"
        )
    found = [(each, entry) for each in lists for entry in each.members if entry.peer == str(own.peer)]
    if not found:
        names = ", ".join(_called(entry) for entry in lists[0].members)
        raise MemberRefused(
            f"{own.name} with the peer {own.peer} is not a member of {member.store} ({names}) yet: add it "
            f"first, on the host of one of them: {member.command} add --name {own.name} --peer {own.peer}"
        )
    if any(entry.ran for _, entry in found):
        raise MemberRefused(
            f"{own.name} ran before as a member of {member.store}, but its data in {own.data_dir} is gone, "
            f"and what it promised with it. {replace(member)}"
        )
    group, entry = found[0]
    same = {each.peer for each in group.members} == set(map(str, bootstrap.members.values()))
    if bootstrap.state == "new" and entry.name and same:
        return bootstrap  # one with which the group begins, later than the others
    members = {
        own.name if each.peer == str(own.peer) else _called(each): values.endpoint(each.peer)
        for each in group.members
    }
    return Bootstrap("existing", bootstrap.token, members)


def removed(held: Identity, answers: Mapping[str, PeerList | str]) -> bool:
    """Whether the group knows no member of this id any more.

    A majority has to say so: a member that is behind may not know this one yet.
    """
    lists = [each for each in lists_of(answers) if each.cluster_id == held.cluster_id]
    if any(entry.id == held.member_id for each in lists for entry in each.members):
        return False
    return any(len(lists) >= majority(len(each.members)) for each in lists)


def lists_of(answers: Mapping[str, PeerList | str]) -> list[PeerList]:
    """Return what was answered, without the faults."""
    return [each for each in answers.values() if isinstance(each, PeerList)]


def replace(member: MemberData) -> str:
    """Say how a member is replaced that lost its data."""
    own, command = member.own, member.command
    return (
        f"Put the data back; if it is lost for good, replace the member: scale.yml -e replace={own.name} "
        f"where the collection deploys, else {command} remove --name {own.name} on the host of another one, "
        f"{command} forget here, then add it anew ({command} add)"
    )


def _called(entry: Listed) -> str:
    """Return a name for the command line, where each peer has one; etcd itself goes by the peers."""
    return entry.name or f"unnamed-{entry.id:x}"


def _said(answers: Mapping[str, PeerList | str]) -> str:
    return "; ".join(f"{peer}: {answer}" for peer, answer in answers.items())
