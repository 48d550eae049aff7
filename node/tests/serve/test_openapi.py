# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The OpenAPI document against the node: schemathesis asks, and every answer must be documented."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import requests
import schemathesis
from aiohttp import web
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi import checks as openapi_checks
from support.serving import Serving, serving

from grey.serve import errors, http, openapi
from grey.serve.watch import EVENT_STREAM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

EXAMPLES = 20
"""For each operation."""


@contextmanager
def served(folder: Path, plant: Callable[[Serving], None] = lambda _: None) -> Iterator[str]:
    """A real node in a thread of its own, since schemathesis waits for its answers; gives its URL."""
    ready: threading.Event = threading.Event()
    found: dict[str, Any] = {}

    async def run() -> None:
        async with serving(folder) as node:
            plant(node)
            found["port"], found["stop"] = node.port, asyncio.Event()
            found["loop"] = asyncio.get_running_loop()
            ready.set()
            await found["stop"].wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert ready.wait(30)
        yield f"http://127.0.0.1:{found['port']}"
    finally:
        found["loop"].call_soon_threadsafe(found["stop"].set)
        thread.join(30)
    assert not thread.is_alive()


def strict(document: dict[str, Any]) -> dict[str, Any]:
    """Let every object hold what is documented and nothing else: clients take more, this test must not."""
    found = copy.deepcopy(document)
    for schema in found["components"]["schemas"].values():
        if schema.get("type") == "object":
            schema["additionalProperties"] = False
    return found


CHECKS = [
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
]


def told(case: schemathesis.Case) -> schemathesis.Case:
    """Keep the rules between parameters that a schema of single ones cannot say."""
    query, headers = dict(case.query or {}), case.headers
    bounded = query.get("consistency") == "bounded"
    if bounded != ("max_staleness" in query):
        query.pop("consistency", None)
        query.pop("max_staleness", None)
    if case.path != "/v1/watch":
        query.pop("after", None)  # a token comes from an earlier page only
    if "ttl" in query:
        query["ttl"] = "1h"
    if "If-None-Match" in headers and case.method == "PUT":
        headers.pop("If-Match", None)
    case.query = query
    if case.path_parameters and len(case.path_parameters["key"]) < 8:
        case.path_parameters["key"] = "known"  # or nothing would ever be found
    if case.path == "/v1/batch":
        operations = {operation["key"]: operation for operation in case.body["operations"]}
        for operation in operations.values():
            if operation.get("if_absent"):
                operation.pop("if_position", None)
            if operation.get("ttl") is not None:
                operation["ttl"] = "1h"
        case.body["operations"] = list(operations.values())
    return case


def ask(schema: schemathesis.BaseSchema, url: str, mode: schemathesis.GenerationMode) -> dict[str, set[int]]:
    """Send what the document allows, or forbids, to every operation; return the statuses of each."""
    operations = [result.ok() for result in schema.get_all_operations()]
    operations.sort(key=lambda each: each.method != "put")
    named = {each.definition.raw["operationId"]: each for each in operations}
    return {
        name: ask_one(operation, url, mode)
        for name, operation in named.items()
        # Who takes nothing can be asked nothing wrong.
        if mode is schemathesis.GenerationMode.POSITIVE or operation.definition.raw["parameters"]
    }


def ask_one(operation: Any, url: str, mode: schemathesis.GenerationMode) -> set[int]:
    seen: set[int] = set()
    positive = mode is schemathesis.GenerationMode.POSITIVE

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def one(case: schemathesis.Case) -> None:
        response = send(told(case) if positive else case, url)
        seen.add(response.status_code)
        case.validate_response(response, checks=CHECKS)
        assert response.status_code != 500
        assert not (positive and response.status_code == 400), response.text

    one()
    return seen


def send(case: schemathesis.Case, url: str) -> requests.Response:
    """Send a request; of a watch that begins only the head is taken: its events do not end."""
    asked = case.as_transport_kwargs(base_url=url)
    with requests.request(**asked, stream=True, timeout=20) as response:
        if response.headers.get("Content-Type") == EVENT_STREAM:
            response._content = b""
        assert response.content is not None  # reads the body
        return response


@pytest.fixture
def schema() -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_dict(strict(openapi.document()))


def test_what_the_document_allows_is_answered_as_it_says(
    schema: schemathesis.BaseSchema, tmp_path: Path
) -> None:
    with served(tmp_path) as url:
        statuses = ask(schema, url, schemathesis.GenerationMode.POSITIVE)
    assert set(statuses) == {
        "get",
        "put",
        "delete",
        "list",
        "batch",
        "watch",
        "openapi",
        "health",
        "ready",
        "primary",
        "replica",
    }
    assert {200, 404} <= statuses["get"]
    assert {200, 412} <= statuses["put"]
    assert {200, 409} <= statuses["watch"]
    assert all(200 in statuses[name] for name in ("delete", "list", "openapi", "ready", "primary"))


def test_what_the_document_forbids_is_refused_as_it_says(
    schema: schemathesis.BaseSchema, tmp_path: Path
) -> None:
    with served(tmp_path) as url:
        statuses = ask(schema, url, schemathesis.GenerationMode.NEGATIVE)
    assert all(400 in statuses[name] for name in ("get", "list", "batch", "watch", "replica"))


def undocumented_status(node: Serving) -> None:
    async def get(*_: object) -> web.Response:
        return web.Response(status=418)

    node.api._on_keys["GET"] = ("get", get)


def undocumented_field(node: Serving) -> None:
    async def delete(*_: object) -> web.Response:
        answer = {"key": "a", "position": None, "stamp": None, "existed": False, "secret": 1}
        return http.json_response(answer)

    node.api._on_keys["DELETE"] = ("delete", delete)


def missing_field(node: Serving) -> None:
    async def lists(*_: object) -> web.Response:
        return http.json_response({"items": [], "next": None}, headers={"Grey-Cluster": "x"})

    node.api._others["/v1/kv"] = ("GET", "list", lists)


def missing_header(node: Serving) -> None:
    node.api._who_answers = dict  # type: ignore[assignment]


def undocumented_code(node: Serving) -> None:
    async def batch(*_: object) -> web.Response:
        return http.error_response(errors.ApiError(400, "new_code", "m", "h"))

    node.api._others["/v1/batch"] = ("POST", "batch", batch)


def undocumented_refusal(node: Serving) -> None:
    async def watch(*_: object) -> web.Response:
        return http.error_response(errors.ApiError(404, "not_found", "m", "h"))

    node.api._others["/v1/watch"] = ("GET", "watch", watch)


def watch_without_its_header(node: Serving) -> None:
    async def watch(request: web.BaseRequest, *_: object) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": EVENT_STREAM})
        await answer.prepare(request)
        return answer

    node.api._others["/v1/watch"] = ("GET", "watch", watch)


@pytest.mark.parametrize(
    ("plant", "complaint"),
    [
        (undocumented_status, "Undocumented status code"),
        (undocumented_field, "Additional properties are not allowed"),
        (missing_field, "'?\"?position'?\"? is a required property"),
        (missing_header, "Missing required response headers"),
        (undocumented_code, "is not one of"),
        (undocumented_refusal, "Undocumented status code"),
        (watch_without_its_header, "Missing required response headers"),
    ],
)
def test_what_is_not_documented_is_noticed(
    schema: schemathesis.BaseSchema, tmp_path: Path, plant: Callable[[Serving], None], complaint: str
) -> None:
    with served(tmp_path, plant) as url, pytest.raises(BaseException, match=complaint):
        ask(schema, url, schemathesis.GenerationMode.POSITIVE)


def test_the_document_is_sound_and_served(tmp_path: Path) -> None:
    schema = openapi.document()
    for name, part in schema["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(part)
        assert part.get("description"), name
    with served(tmp_path) as url:
        found = schemathesis.openapi.from_url(url + openapi.PATH)
    assert found.raw_schema == json.loads(openapi.text()) == schema
