# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Talking to systemd: the state of units as properties, and the few verbs that the module needs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.grey.distributed.plugins.module_utils._command import run
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError

if TYPE_CHECKING:
    from collections.abc import Sequence

SYSTEMCTL = "systemctl"
JOURNALCTL = "journalctl"
BOOTED = Path("/run/systemd/system")

_ANSWER_SECONDS = 30.0
_LOG_LINES = 40
_LOG_CHARACTERS = 2000
_PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "MainPID",
    "Job",
    "ExecMainStartTimestampMonotonic",
    "ExecMainStatus",
    "NeedDaemonReload",
    "DropInPaths",
)


@dataclass(frozen=True)
class UnitState:
    """What systemd says of a unit.

    ``started`` is when its process was last started, in seconds of the monotonic clock; ``status`` the exit
    status of the process that ended last; ``waiting`` whether a job for it is not done yet.
    """

    load: str
    active: str
    sub: str
    pid: int
    waiting: bool
    started: float
    status: int
    reload_needed: bool
    drop_ins: tuple[str, ...]

    @property
    def runs(self) -> bool:
        """Whether its process is there."""
        return self.pid > 0 and self.active == "active"

    @property
    def starts(self) -> bool:
        """Whether its process was made a moment ago and is not yet the program."""
        return (self.active, self.sub) == ("activating", "start")

    @property
    def loaded(self) -> bool:
        """Whether it is more than a name."""
        return self.load not in ("not-found", "")

    def __str__(self) -> str:
        """Return the state in systemd's own words."""
        return f"{self.active} ({self.sub})" if self.loaded or self.active != "inactive" else "no such unit"


def booted() -> bool:
    """Whether systemd is what runs this host."""
    return BOOTED.is_dir()


def fault() -> str | None:
    """Say why this user cannot keep programs running with this host's systemd."""
    if not booted():
        return (
            f"systemd: wanted it to run this host, found no {BOOTED}; for a host without it set "
            "grey_program_manager=supervisor"
        )
    if os.geteuid() != 0:
        return (
            "systemd: wanted root, whose units these are, found another user; connect as root or set "
            "ansible_become, or set grey_program_manager=supervisor"
        )
    return None


def show(units: Sequence[str]) -> dict[str, UnitState]:
    """Return the state of each unit; of one that is not known, too."""
    if not units:
        return {}
    output = _ask("show", f"--property={','.join(_PROPERTIES)}", "--", *units)
    found = {}
    for block in output.split("\n\n"):
        said = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if "Id" in said:
            found[said["Id"]] = _state(said)
    missing = sorted(set(units) - set(found))
    if missing:
        raise GreyError(
            f"systemctl show: wanted the state of {', '.join(missing)}, found an answer without it; "
            "is it an alias of another unit?"
        )
    return found


def reload() -> None:
    """Have systemd read the unit files again."""
    _ask("daemon-reload")


def enable(units: Sequence[str]) -> None:
    """Start units at boot from now on; systemd must read its files again afterwards."""
    _ask("--no-reload", "enable", "--", *units)


def restart(units: Sequence[str]) -> None:
    """Ask for the (re)start of units, without waiting for it."""
    _ask("--no-block", "restart", "--", *units)


def reset_failed(units: Sequence[str]) -> None:
    """Forget that units failed."""
    _ask("reset-failed", "--", *units)


def stop(units: Sequence[str], wait_seconds: float) -> None:
    """Stop units and wait until they are gone."""
    _ask("stop", "--", *units, timeout_seconds=wait_seconds + _ANSWER_SECONDS)


def log_tail(unit: str, since: float) -> str:
    """Return the end of what a unit logged since a time, in Unix seconds.

    Never fails, because it is wanted for an error.
    """
    try:
        # What ended a moment ago may still be on its way into the journal.
        run((JOURNALCTL, "--sync"), timeout_seconds=_ANSWER_SECONDS)
        command = (JOURNALCTL, "--no-pager", "--quiet", "--output=cat", f"--lines={_LOG_LINES}")
        answer = run((*command, f"--since=@{since:.6f}", f"--unit={unit}"), timeout_seconds=_ANSWER_SECONDS)
    except GreyError as error:
        return f"({error})"
    if answer.code != 0:
        return f"({answer.said()})"
    return answer.output.strip()[-_LOG_CHARACTERS:] or "(empty)"


def _state(said: dict[str, str]) -> UnitState:
    return UnitState(
        said.get("LoadState", ""),
        said.get("ActiveState", ""),
        said.get("SubState", ""),
        int(said.get("MainPID") or 0),
        said.get("Job", "") not in ("", "0"),
        int(said.get("ExecMainStartTimestampMonotonic") or 0) / 1e6,
        int(said.get("ExecMainStatus") or 0),
        said.get("NeedDaemonReload") == "yes",
        tuple(said.get("DropInPaths", "").split()),
    )


def _ask(*arguments: str, timeout_seconds: float = _ANSWER_SECONDS) -> str:
    answer = run((SYSTEMCTL, *arguments), timeout_seconds=timeout_seconds)
    if answer.code != 0:
        raise GreyError(
            f"systemctl {' '.join(arguments)}: wanted exit 0, found {answer.code}: {answer.said()}"
        )
    return answer.output
