# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an etcd group begins, and how another member joins it: a file, read while a member has no data.

``{"state": "new" | "existing", "token": "...", "members": {"NAME": "ADDRESS:PORT", ...}}`` has the peer
endpoints of the members with which a ``new`` group begins, the same file on each of their hosts; or of those
of an ``existing`` one that this member joins, this one too. Afterwards etcd knows its members itself, so that
the file may say what it likes of them. What goes on to count is ``"heartbeat": "150ms"``, optional: all
members of a group should beat alike, so that it is written once, with what the group begins with.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from grey.config import etcd_member, values
from grey.config.errors import BadValue
from grey.config.model import Endpoint
from grey.store.etcd_data import MemberRefused

if TYPE_CHECKING:
    from grey.config.etcd_member import EtcdMember
    from grey.store.etcd_data import MemberData

_log = logging.getLogger(__name__)

State = Literal["new", "existing"]
_Token = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_WANTED = '{"state": "new" or "existing", "token": "...", "members": {"NAME": "ADDRESS:PORT", ...}}'


class Bootstrap(msgspec.Struct, frozen=True):
    """How a member without data begins. ``members`` are peer endpoints by name, this member's too."""

    state: State
    token: str
    members: dict[str, Endpoint]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    state: State
    token: _Token
    members: dict[str, str]
    heartbeat: str | None = None


class _Rhythm(msgspec.Struct, frozen=True):
    heartbeat: str | None = None


def heartbeat_milliseconds(own: EtcdMember) -> int:
    """Return how often a leader is to be heard of: as the node's file says, else as the group began.

    A member that runs must not stop over this file, so that what cannot be read counts as the default.
    """
    if own.heartbeat_milliseconds is not None:
        return own.heartbeat_milliseconds
    path = Path(own.bootstrap_file)
    try:
        found = _heartbeat(msgspec.json.decode(path.read_bytes(), type=_Rhythm).heartbeat)
    except FileNotFoundError:
        found = None
    except (msgspec.DecodeError, OSError, BadValue) as fault:
        default = etcd_member.HEARTBEAT_MILLISECONDS
        _log.warning("%s does not say the heartbeat, taking %d ms: %s", path, default, fault)
        found = None
    return found or etcd_member.HEARTBEAT_MILLISECONDS


def load(member: MemberData) -> Bootstrap:
    """Read the bootstrap file of a member and check that it is one of those named. Raises MemberRefused."""
    own = member.own
    path = Path(own.bootstrap_file)
    need = f"{own.name} has no data yet, so that it needs {path}"
    try:
        plain = msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        raise MemberRefused(
            f"{need}, which does not exist: write it (the deployment does), or correct "
            f"{member.key}.bootstrap_file in the node's file"
        ) from None
    except (msgspec.DecodeError, OSError) as fault:
        raise MemberRefused(f"{need}, which cannot be read ({fault}): it must hold {_WANTED}") from fault
    members: dict[str, Endpoint] = {}
    for name, text in plain.members.items():
        members[name] = _peer(path, name, text)
    found = members.get(own.name)
    if found != own.peer:
        known = "is not among its members" if found is None else f"has the peer {found} there"
        raise MemberRefused(
            f"{path} must name this member, {own.name}, with its peer {own.peer}, but {own.name} {known} "
            f"({', '.join(members) or 'none'}): correct the file, or {member.key} in the node's file"
        )
    try:
        _heartbeat(plain.heartbeat)
    except BadValue as fault:
        raise MemberRefused(f"{path}: heartbeat: {fault}") from fault
    _refuse_doubled(path, members)
    if plain.state == "existing" and len(members) == 1:
        raise MemberRefused(
            f"{path} says that {own.name} joins an existing group, but names no other member of it: add one"
        )
    return Bootstrap(plain.state, plain.token, members)


def others(member: MemberData) -> list[str]:
    """Return the peers of the other members that the file names; none when it is absent, or not readable."""
    try:
        plain = msgspec.json.decode(Path(member.own.bootstrap_file).read_bytes(), type=_File)
    except (msgspec.DecodeError, OSError):
        return []
    return [peer for peer in plain.members.values() if peer != str(member.own.peer)]


def _heartbeat(text: str | None) -> int | None:
    if text is None:
        return None
    found = etcd_member.milliseconds(text)
    least, most = etcd_member.LEAST_HEARTBEAT_MILLISECONDS, etcd_member.MOST_HEARTBEAT_MILLISECONDS
    if not least <= found <= most:
        raise BadValue(
            f"expected {least}ms to {most // 1000}s, found {text}",
            "write about the longest round trip between two members",
        )
    return found


def _peer(path: Path, name: str, text: str) -> Endpoint:
    try:
        values.node_name(name)
        found = values.endpoint(text)
        values.address(found.host)
    except BadValue as fault:
        raise MemberRefused(
            f"{path}: the member {name!r} must have a node's name and ADDRESS:PORT, but has {text!r}: {fault}"
        ) from fault
    return found


def _refuse_doubled(path: Path, members: dict[str, Endpoint]) -> None:
    seen: dict[Endpoint, str] = {}
    for name, peer in members.items():
        if peer in seen:
            raise MemberRefused(f"{path}: {name} and {seen[peer]} have the same peer {peer}: correct one")
        seen[peer] = name
