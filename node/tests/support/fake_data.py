# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The records that fake clusters serve: current state, history, conditions, request ids."""

from __future__ import annotations

import base64
import datetime
from typing import Any, NamedTuple

from grey.client.keys import to_text


class Refused(Exception):
    """The API's answer to a request that is refused."""

    def __init__(self, status: int, code: str, **detail: Any) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.detail = detail


class Stored(NamedTuple):
    value: bytes
    position: str
    stamp: str
    expires: str | None = None


class Change(NamedTuple):
    """``value`` None: a delete."""

    sequence: int
    key: bytes
    stored: Stored
    deleted: bool


class Condition(NamedTuple):
    """``position`` None and not ``absent``: no condition."""

    absent: bool = False
    position: str | None = None


class FakeData:
    """One history that all clusters of a fake federation share."""

    def __init__(self) -> None:
        self.data: dict[bytes, Stored] = {}
        self.history: list[Change] = []
        self.outcomes: dict[str, tuple[object, dict[str, Any]]] = {}
        self.epoch = 1
        self.sequence = 0
        self.compacted = 0
        """What is older is not told any more."""
        self.forks: dict[int, int] = {}
        """Where an epoch ended: what it had beyond that was lost."""

    def position(self, sequence: int | None = None) -> str:
        found = self.sequence if sequence is None else sequence
        ended = [epoch for epoch in sorted(self.forks) if found <= self.forks[epoch]]
        return f"{ended[0] if ended else self.epoch}.{found}"

    def store(self, key: bytes, value: bytes | None, ttl_seconds: float | None = None) -> Stored:
        """Write a record; None deletes."""
        self.sequence += 1
        expires = None
        if ttl_seconds is not None:
            at = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=ttl_seconds)
            expires = at.isoformat().replace("+00:00", "Z")
        stored = Stored(value or b"", self.position(), f"1700000000.{self.sequence}", expires)
        self.history.append(Change(self.sequence, key, stored, value is None))
        if value is None:
            self.data.pop(key, None)
        else:
            self.data[key] = stored
        return stored

    def check(self, key: bytes, condition: Condition) -> None:
        """Raise Refused unless the condition holds."""
        found = self.data.get(key)
        at = None if found is None else found.position
        if (condition.absent and found is not None) or condition.position not in {None, at}:
            raise Refused(412, "condition_failed", position=at, key=to_text(key))

    def fork(self, sequence: int) -> None:
        """Fail over: a new epoch begins after a record, those behind it are lost."""
        self.forks[self.epoch] = sequence
        self.data = self.at(sequence)
        self.history = [change for change in self.history if change.sequence <= sequence]
        self.sequence = sequence
        self.epoch += 1

    def at(self, sequence: int) -> dict[bytes, Stored]:
        """Return the state as it was."""
        state: dict[bytes, Stored] = {}
        for change in self.history:
            if change.sequence <= sequence:
                state.pop(change.key, None)
                if not change.deleted:
                    state[change.key] = change.stored
        return state

    def after(self, position: str, newest: int) -> int:
        """Return the sequence of a position that a watch or a page comes with. Raises Refused."""
        epoch, sequence = (int(part) for part in position.split("."))
        if epoch > self.epoch or sequence > self.forks.get(epoch, sequence):
            raise Refused(409, "diverged")
        if sequence > newest:
            raise Refused(503, "too_stale", primary=None, lag_seconds=9.5)
        if sequence < self.compacted:
            raise Refused(410, "compacted")
        return sequence

    def page(
        self, prefix: bytes, limit: int, token: str | None, newest: int
    ) -> tuple[dict[bytes, Stored], str | None, str]:
        """Return the records of a page, the token of the one that follows, and the snapshot's position."""
        after, sequence = b"", newest
        if token is not None:
            snapshot, after = base64.urlsafe_b64decode(token).split(b" ", 1)
            try:
                sequence = self.after(snapshot.decode(), newest)
            except Refused as refused:
                if refused.code == "compacted":
                    refused.detail["next"] = self._token(newest, after)
                raise
        state = self.data if sequence == self.sequence else self.at(sequence)
        found = [key for key in sorted(state) if key.startswith(prefix) and key > after]
        more = self._token(sequence, found[limit - 1]) if len(found) > limit else None
        return {key: state[key] for key in found[:limit]}, more, self.position(sequence)

    def _token(self, sequence: int, after: bytes) -> str:
        return base64.urlsafe_b64encode(b"%s %s" % (self.position(sequence).encode(), after)).decode()
