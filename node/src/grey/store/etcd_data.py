# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies on this host's disk of an etcd member."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from grey.config.etcd_member import EtcdMember

if TYPE_CHECKING:
    from pathlib import Path


class MemberRefused(Exception):
    """The member must not be started on what is on disk; the message says why and what to do."""


class NobodyAnswers(MemberRefused):
    """None of the other members answers, and it cannot be decided without them. It may be tried again."""


class MemberData(msgspec.Struct, frozen=True):
    """A member beside greyd. ``store`` says what it is a member of, ``key`` where the node's file names it.

    ``command`` is what messages tell to type.
    """

    own: EtcdMember
    store: str
    key: str
    command: str


def inspect(data_dir: Path) -> Literal["empty", "member", "foreign"]:
    """Say what a data folder holds. A member without a write-ahead log counts as empty, as etcd sees it."""
    try:
        names = {entry.name for entry in data_dir.iterdir()}
    except FileNotFoundError:
        return "empty"
    except OSError as fault:
        raise MemberRefused(f"{data_dir} cannot be read ({fault}): check its owner and mode") from fault
    if any((data_dir / "member" / "wal").glob("*.wal")):
        return "member"
    return "empty" if names <= {"member", "lost+found"} else "foreign"
