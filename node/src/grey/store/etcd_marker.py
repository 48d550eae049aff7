# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The marker file of an etcd member, which outlives its data folder on purpose.

It holds ``{"state": "bootstrapping" | "member", "peers": [...]}``: with ``member`` the data was once part of
a healthy majority, and an empty data folder means that it was lost. A member that lost its data must never
start as if it were new: it would vote again on what it already promised. ``peers`` are the other members' as
they were last seen, to ask whether this one still is a member.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from grey.store.durable import replace_file
from grey.store.etcd_data import MemberRefused

if TYPE_CHECKING:
    from grey.store.etcd_data import MemberData

State = Literal["bootstrapping", "member"]


class Marker(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the file says."""

    state: State
    peers: tuple[str, ...] = ()


def read(member: MemberData) -> Marker | None:
    """Return the marker, None when there is none. Raises MemberRefused when it cannot be read."""
    path = Path(member.own.marker_file)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Marker)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, OSError) as fault:
        raise MemberRefused(
            f'{path} must hold {{"state": "bootstrapping"}} or {{"state": "member"}}, but cannot be '
            f'read ({fault}): write {{"state": "member"}} into it if this host was '
            "ever a member, else delete it"
        ) from fault


def write(member: MemberData, marker: Marker) -> None:
    """Write the marker durably: it is there completely or not at all, also after a power cut."""
    path = Path(member.own.marker_file)
    try:
        # The check may run as root, the member reads the file as its own user.
        replace_file(path, msgspec.json.encode(marker), mode=0o644)
    except OSError as fault:
        raise MemberRefused(
            f"{path} cannot be written ({fault}): check its folder's owner, mode and room"
        ) from fault
