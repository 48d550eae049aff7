# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What concurrent clients asked of a running cluster, when, and what came out of it.

Times are seconds of one monotonic clock. Every value that is put is written by one request only, so that what
was read says which request wrote it.
"""

from __future__ import annotations

import enum
import json
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from grey.record.position import Position

NEVER = math.inf
"""The completion of a request whose outcome is not known: it may take effect at any later time."""


class Kind(enum.StrEnum):
    """What was asked."""

    GET = "get"
    PUT = "put"
    DELETE = "delete"


class Outcome(enum.StrEnum):
    """What the client knows afterwards."""

    OK = "ok"
    CONDITION_FAILED = "condition failed"
    UNKNOWN = "unknown"
    FAILED = "failed"
    """Surely not carried out."""


@dataclass(frozen=True)
class IfAbsent:
    """Carry it out only if the key does not exist."""


@dataclass(frozen=True)
class IfAt:
    """Carry it out only if the key is at this position."""

    position: Position


Condition: TypeAlias = IfAbsent | IfAt


@dataclass(frozen=True)
class Operation:
    """One request about one key; a batch is several with the same ``batch``, in the order of ``part``.

    ``value`` is what was put or read, None for a deletion and for a key that did not exist. ``position`` is
    that of the record that was written or read; of the one that stood in the way when a condition
    failed. ``existed`` is what a deletion said of the key.
    """

    client: int
    kind: Kind
    key: str
    invoked: float
    completed: float
    outcome: Outcome
    value: str | None = None
    position: Position | None = None
    condition: Condition | None = None
    existed: bool | None = None
    batch: int | None = None
    part: int = 0
    detail: str = ""

    def __str__(self) -> str:
        asked = f"{self.kind} {self.key}" + (f"={self.value}" if self.value is not None else "")
        asked += f" [{self.condition}]" if self.condition else ""
        asked += f" of batch {self.batch}" if self.batch is not None else ""
        said = f"{self.outcome}" + (f" at {self.position}" if self.position else "")
        said += f" existed={self.existed}" if self.existed is not None else ""
        until = "-" if self.completed == NEVER else f"{self.completed:.4f}"
        return f"{self.invoked:.4f}..{until} client {self.client}: {asked}: {said} {self.detail}".rstrip()


@dataclass(frozen=True)
class Window:
    """A time in which no write may be acknowledged: nobody may carry it out, or nobody can.

    An answer may still be on its way: of the writes that began before, those answered within ``grace``
    seconds do not count, nor do ``straddlers`` later ones. ``reads_too``: strong reads neither.
    """

    since: float
    until: float
    why: str
    reads_too: bool = False
    grace: float = 0.5
    straddlers: int = 0


@dataclass
class History:
    """All operations of a run, and the windows in which none may be acknowledged.

    ``before`` is the sequence number of the newest record that was there already.
    """

    operations: list[Operation] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    before: int = 0

    def add(self, operations: Iterable[Operation]) -> None:
        """Take finished operations in, in any order."""
        self.operations.extend(operations)

    def count(self, outcome: Outcome) -> int:
        """Return how many operations ended so."""
        return sum(each.outcome is outcome for each in self.operations)

    def summary(self) -> str:
        """Say in one line what the history holds."""
        keys = len({each.key for each in self.operations})
        counts = ", ".join(f"{self.count(outcome)} {outcome}" for outcome in Outcome)
        return f"{len(self.operations)} operations on {keys} keys ({counts})"

    def write(self, path: Path) -> None:
        """Write the history as JSON lines, in the order of invocation, to explain a violation by."""
        ordered = sorted(self.operations, key=lambda each: each.invoked)
        lines = [json.dumps({"window": asdict(each)}, default=str) for each in self.windows]
        lines += [json.dumps(asdict(each), default=str) for each in ordered]
        path.write_text("\n".join(lines) + "\n")
