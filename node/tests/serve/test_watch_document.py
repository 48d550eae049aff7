# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a watch says, held to the OpenAPI document: each of its refusals, and the data of its events."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from support.serving import serving
from support.watching import ScriptedFeed, watching

from grey.config.model import ApiLimits
from grey.data.errors import Copied, Diverged
from grey.data.feed import Batch
from grey.record import Position
from grey.serve import openapi
from grey.store.interface import Compacted, StoreDamaged

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.serving import Answer, Serving
    from support.watching import Event

DOCUMENT = openapi.document()
WATCH = DOCUMENT["paths"]["/v1/watch"]["get"]
EVENTS = WATCH["responses"]["200"]["content"]["text/event-stream"]["x-events"]


def fits(schema: dict[str, Any], found: object) -> None:
    """Demand that it is what the schema says, and nothing beside it."""
    components = copy.deepcopy(DOCUMENT["components"])
    for each in components["schemas"].values():
        if each.get("type") == "object":
            each["additionalProperties"] = False
    jsonschema.validate(found, {**schema, "components": components}, jsonschema.Draft202012Validator)


def documented(answer: Answer) -> None:
    """Demand that the document has this refusal of a watch: status, code, body, headers."""
    said = WATCH["responses"][str(answer.status)]
    assert answer.headers["Content-Type"] == "application/json"
    fits(said["content"]["application/json"]["schema"], answer.json)
    for name, header in said.get("headers", {}).items():
        assert name in answer.headers or not header["required"]


def told(event: Event | None) -> Event:
    """Demand that the document has this event, and return it."""
    assert event is not None
    fits(EVENTS[event.name], event.data)
    assert (event.id is None) == (event.name == "end")
    if event.name != "end":
        assert event.id == event.data["position"]
    return event


def busy(node: Serving) -> None:
    node.api.watches._most = 0


def stopping(node: Serving) -> None:
    node.api.end_watches()


def refused(node: Serving) -> None:
    node.view.state = "refused"


def broken(node: Serving) -> None:
    node.api.watches._feed = ScriptedFeed(ZeroDivisionError("secret"))  # type: ignore[assignment]


def nothing(_: Serving) -> None: ...


@pytest.mark.parametrize(
    ("plant", "query", "headers", "status", "code"),
    [
        (nothing, "?after=1.1", {}, 410, "compacted"),
        (nothing, "?after=7.2", {}, 409, "diverged"),
        (nothing, "?after=1.9", {}, 503, "too_stale"),
        (nothing, "?after=1", {}, 400, "bad_request"),
        (nothing, "?values=1", {}, 400, "bad_request"),
        (nothing, "?other=1", {}, 400, "bad_request"),
        (nothing, "?after=1.3", {"Last-Event-ID": "1.1"}, 410, "compacted"),
        (nothing, "?after=1.3", {"Last-Event-ID": "none"}, 400, "bad_request"),
        (busy, "", {}, 503, "overloaded"),
        (stopping, "", {}, 503, "unavailable"),
        (refused, "", {}, 503, "unavailable"),
        (broken, "", {}, 500, "internal"),
    ],
)
async def test_each_refusal_is_in_the_document(
    node: Serving,
    plant: Callable[[Serving], None],
    query: str,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    for value in (b"1", b"2", b"3"):
        await node.ask("PUT", "/v1/kv/a", data=value)
    await node.store.compact((await node.store.status()).revision - 1)
    plant(node)
    answer = await node.ask("GET", f"/v1/watch{query}", headers=headers)
    assert (answer.status, answer.error["code"]) == (status, code)
    documented(answer)


async def test_too_many_requests_too(tmp_path: Path) -> None:
    async with serving(tmp_path, ApiLimits(requests_per_second=1)) as node:
        answers = [await node.ask("GET", "/v1/watch?after=x") for _ in range(20)]
    assert {answer.status for answer in answers} == {400, 429}
    for answer in answers:
        documented(answer)


async def test_each_event_is_in_the_document(node: Serving) -> None:
    async with watching(node) as watcher, watching(node, "?values=false") as bare:
        for each in (watcher, bare):
            assert told(await each.next()).name == "progress"
        for path in ("/v1/kv/%00%ff", "/v1/kv/a?ttl=1h", "/v1/kv/b%20c"):
            assert (await node.ask("PUT", path, data=b"\x00value")).status == 200
        await node.ask("DELETE", "/v1/kv/a")
        for each in (watcher, bare):
            events = [told(await each.next()) for _ in range(4)]
            assert [event.name for event in events] == ["put", "put", "put", "delete"]
            assert ["expires" in event.data for event in events] == [False, True, False, False]
            assert ["value_base64" in event.data for event in events] == [each is watcher] * 3 + [False]
        node.api.end_watches()
        for each in (watcher, bare):
            assert told(await each.next()).data["code"] == "stopping"


@pytest.mark.parametrize(
    "fault",
    [
        Copied(),
        Compacted(1, 2),
        Diverged(Position(1, 2), Position(2, 2)),
        StoreDamaged("page 7"),
        ZeroDivisionError("secret"),
    ],
)
async def test_each_end_is_in_the_document(node: Serving, fault: Exception) -> None:
    go = asyncio.Event()
    node.api.watches._feed = ScriptedFeed(Batch([], Position(1, 1)), go, fault)  # type: ignore[assignment]
    async with watching(node) as watcher:
        told(await watcher.next())
        go.set()
        assert told(await watcher.next()).name == "end"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("put", {"key": "a", "position": "1.1", "stamp": "1.0"}),
        ("put", {"key": "a", "position": "1.1", "stamp": "1.0", "origin": "a", "secret": 1}),
        ("delete", {"key": "a b", "position": "1.1", "stamp": "1.0", "origin": "a"}),
        ("progress", {"position": "1"}),
        ("end", {"code": "new", "message": "m"}),
    ],
)
def test_what_is_not_in_the_document_is_noticed(name: str, data: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        fits(EVENTS[name], data)
