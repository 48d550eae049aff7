# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proves that a write reaches every cluster: a canary written, seen everywhere, removed."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING

import msgspec

from grey.client import GreyError, OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grey.client import AsyncClient, Written

PREFIX = "grey-canary/"

_POLL_SECONDS = 0.05
_LEAST_SECONDS = 0.2
_REMOVE_SECONDS = 5.0


class Row(msgspec.Struct, frozen=True):
    """One cluster: how long the write took (primary), or how long after it the canary was seen."""

    name: str
    ok: bool
    milliseconds: float | None
    problem: str | None


class Report(msgspec.Struct, frozen=True):
    """What was found. ``primary`` and ``epoch`` are None when nothing could be written."""

    ok: bool
    federation: str
    epoch: int | None
    primary: str | None
    clusters: tuple[Row, ...]


class Outcome(msgspec.Struct, frozen=True):
    """The report; the error of the write, if it failed; the canary's key and why it could not be removed."""

    report: Report
    write_error: GreyError | None
    left_behind: tuple[str, str] | None


async def verify(
    client: AsyncClient, federation: str, clusters: Sequence[str], wait_seconds: float
) -> Outcome:
    """Write a canary through the primary, look for it on every other cluster, and remove it in any case.

    ``wait_seconds`` bounds the time until every cluster shows it; the removal may take 5 s more.
    """
    key = f"{PREFIX}{uuid.uuid4().hex}"
    value = key.encode()
    written: Written | GreyError
    rows: tuple[Row, ...] = ()
    may_exist = True
    left_behind = None
    start = time.monotonic()
    deadline = start + wait_seconds
    try:
        try:
            written = await client.put(key, value, timeout_seconds=wait_seconds)
        except GreyError as error:
            written = error
            may_exist = isinstance(error, OutcomeUnknown)
        else:
            acknowledged = time.monotonic()
            primary = client.primary or ""
            found = await asyncio.gather(
                *(
                    _seen(client, name, key, value, acknowledged, deadline)
                    for name in clusters
                    if name != primary
                )
            )
            rows = (Row(primary, True, _milliseconds(acknowledged - start), None), *found)
    finally:
        if may_exist:
            left_behind = await _remove(client, key)
    if isinstance(written, GreyError):
        rows = tuple(Row(name, False, None, "nothing could be written to look for") for name in clusters)
        return Outcome(Report(False, federation, None, None, rows), written, left_behind)
    order = {name: index for index, name in enumerate(clusters)}
    rows = tuple(sorted(rows, key=lambda row: order.get(row.name, len(order))))
    report = Report(all(row.ok for row in rows), federation, written.position.epoch, client.primary, rows)
    return Outcome(report, None, left_behind)


async def _seen(client: AsyncClient, name: str, key: str, value: bytes, since: float, deadline: float) -> Row:
    problem = "it was not there"
    left = max(_LEAST_SECONDS, deadline - since)
    while True:
        try:
            found = await client.get(key, cluster=name, timeout_seconds=left)
        except GreyError as error:
            problem = error.message
        else:
            if found is not None and found.value == value:
                return Row(name, True, _milliseconds(time.monotonic() - since), None)
            problem = "it was not there" if found is None else "another value was there"
        await asyncio.sleep(_POLL_SECONDS)
        left = deadline - time.monotonic()
        if left < _LEAST_SECONDS:
            # A last question with no time for its answer would hide what the ones before it found.
            return Row(name, False, None, f"not seen in time: {problem}")


async def _remove(client: AsyncClient, key: str) -> tuple[str, str] | None:
    try:
        await client.delete(key, timeout_seconds=_REMOVE_SECONDS)
    except GreyError as error:
        return key, error.message
    return None


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)
