# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a look at this host found."""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

State = Literal["ok", "warning", "problem"]


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at: what was found, and the next step (None where nothing is to be done)."""

    area: str
    check: str
    state: State
    found: str
    next: str | None = None


class Report(msgspec.Struct, frozen=True):
    """All findings of a host. ``node``, ``cluster`` and ``federation`` are None when no file says them."""

    ok: bool
    node: str | None
    cluster: str | None
    federation: str | None
    findings: tuple[Finding, ...]


class Area:
    """Makes the findings of one area."""

    def __init__(self, name: str) -> None:
        self.name = name

    def ok(self, check: str, found: str) -> Finding:
        """Nothing is to be done."""
        return Finding(self.name, check, "ok", found)

    def warning(self, check: str, found: str, next_step: str) -> Finding:
        """It works, but not as it should, or not for long."""
        return Finding(self.name, check, "warning", found, next_step)

    def problem(self, check: str, found: str, next_step: str) -> Finding:
        """It does not work."""
        return Finding(self.name, check, "problem", found, next_step)

    def unreadable(self, check: str, path: str | Path, error: OSError) -> Finding:
        """A file or folder cannot be looked at: a problem, unless another user may."""
        if isinstance(error, PermissionError):
            return self.warning(
                check,
                f"{path} cannot be read by {user()}",
                "run grey-ctl doctor as root or as the user that runs greyd",
            )
        return self.problem(check, f"{path}: {error.strerror}", "check the path in the node's file")


def user() -> str:
    """Return the name of the user that looks."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.geteuid()}"
