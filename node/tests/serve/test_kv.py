# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key-value API over real connections: what is answered, exactly."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.serving import serving

from grey.serve import http
from grey.serve.documents import MAX_VALUE_BYTES
from grey.serve.errors import ApiError

if TYPE_CHECKING:
    from pathlib import Path

    from support.serving import Serving


async def test_put_get_delete(node: Serving) -> None:
    put = await node.ask("PUT", "/v1/kv/user:123", data=b"hello")
    stamp = put.json["stamp"]
    assert (put.status, put.json) == (200, {"key": "user:123", "position": "1.1", "stamp": stamp})
    got = await node.ask("GET", "/v1/kv/user:123")
    assert (got.status, got.body) == (200, b"hello")
    assert got.headers["Grey-Position"] == "1.1"
    assert got.headers["Grey-Stamp"] == stamp
    assert got.headers["Grey-Origin"] == got.headers["Grey-Cluster"] == "aws-east"
    assert "Grey-Lag-Seconds" not in got.headers
    gone = await node.ask("DELETE", "/v1/kv/user:123")
    assert gone.json == {
        "key": "user:123",
        "position": "1.2",
        "stamp": gone.json["stamp"],
        "existed": True,
    }
    again = await node.ask("DELETE", "/v1/kv/user:123")
    assert (again.status, again.json) == (
        200,
        {"key": "user:123", "position": None, "stamp": None, "existed": False},
    )
    missing = await node.ask("GET", "/v1/kv/user:123")
    assert missing.status == 404
    assert missing.error == {
        "code": "not_found",
        "message": "the key user:123 does not exist",
        "hint": "check the key, or list by its prefix",
    }


AWKWARD = [
    b"..",
    b"../..",
    b"a/b",
    b"/",
    b"%2F",
    b"\x00",
    b"\xff\xfe",
    b" ",
    b"+",
    b"a?b#c",
    b"%",
    b".",
    b"a" * 1024,
]


@pytest.mark.parametrize("key", AWKWARD)
async def test_awkward_keys(node: Serving, key: bytes) -> None:
    path = "/v1/kv/" + quote(key, safe="")
    put = await node.ask("PUT", path, data=key)
    assert put.status == 200
    assert http.key_from_text(put.json["key"]) == key
    assert (await node.ask("GET", path)).body == key
    listed = await node.ask("GET", "/v1/kv?prefix=" + quote(key, safe=""))
    assert [http.key_from_text(item["key"]) for item in listed.json["items"]] == [key]


async def test_keys_of_any_bytes(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with serving(tmp_path) as node:

        async def round_trip(key: bytes) -> None:
            path = "/v1/kv/" + quote(key, safe="")
            assert (await node.ask("PUT", path, data=key)).status == 200
            got = await node.ask("GET", path)
            assert (got.status, got.body) == (200, key)

        @settings(max_examples=60, deadline=None, database=None)
        @given(st.binary(min_size=1, max_size=64))
        def check(key: bytes) -> None:
            asyncio.run_coroutine_threadsafe(round_trip(key), loop).result(20)

        await asyncio.to_thread(check)


@given(st.binary(min_size=1, max_size=64))
def test_the_json_form_of_a_key_is_one(key: bytes) -> None:
    text = http.key_text(key)
    assert http.key_from_text(text) == key
    assert all("!" <= character <= "~" for character in text)


@pytest.mark.parametrize("text", ["%41", "%2f", "a b", "%", "%0", "é"])
def test_other_forms_of_a_key_are_refused(text: str) -> None:
    with pytest.raises(ApiError, match="in JSON a key is printable ASCII"):
        http.key_from_text(text)


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("PUT", "/v1/kv/", "a key has 1 to 1024 bytes, found 0"),
        ("PUT", "/v1/kv/" + "a" * 1025, "a key has 1 to 1024 bytes, found 1025"),
        ("PUT", "/v1/kv/a/b", "a key is one path segment, found a raw /"),
        ("GET", "/v1/kv/%zz", "the key must be percent-encoded ASCII (%XX), found '%zz'"),
        ("PUT", "/v1/kv/a?tll=5s", "unknown parameter 'tll'; known here: ttl"),
        ("PUT", "/v1/kv/a?ttl=5", "ttl must be a duration such as 500ms or 5s, found '5'"),
        ("PUT", "/v1/kv/a?ttl=999ms", "ttl must be 1s to 3650d, found '999ms'"),
        ("PUT", "/v1/kv/a?ttl=3651d", "ttl must be 1s to 3650d, found '3651d'"),
        (
            "GET",
            "/v1/kv/a?consistncy=strong",
            "unknown parameter 'consistncy'; known here: consistency, max_staleness",
        ),
        ("GET", "/v1/kv/a?consistency=strong&consistency=strong", "the parameter consistency is given twice"),
        (
            "GET",
            "/v1/kv/a?consistency=weak",
            "consistency must be one of eventual, bounded, strong, found 'weak'",
        ),
        (
            "GET",
            "/v1/kv/a?consistency=bounded",
            (
                "max_staleness belongs to consistency=bounded and is needed there, "
                "found nothing with consistency=bounded"
            ),
        ),
        (
            "GET",
            "/v1/kv/a?max_staleness=5s",
            (
                "max_staleness belongs to consistency=bounded and is needed there, "
                "found '5s' with consistency=eventual"
            ),
        ),
        (
            "GET",
            "/v1/kv/a?consistency=bounded&max_staleness=5",
            "max_staleness must be a duration such as 500ms or 5s, found '5'",
        ),
        ("GET", "/v1/kv?limit=0", "limit must be 1 to 1000, found '0'"),
        ("GET", "/v1/kv?limit=1001", "limit must be 1 to 1000, found '1001'"),
        ("GET", "/v1/kv?limit=ten", "limit must be 1 to 1000, found 'ten'"),
        ("GET", "/v1/kv?values=yes", "values must be true or false, found 'yes'"),
        ("GET", "/v1/kv?after=!!", "after must be the next of an earlier page, as it was"),
    ],
)
async def test_wrong_requests(node: Serving, method: str, path: str, message: str) -> None:
    answer = await node.ask(method, path)
    assert answer.status == 400
    assert (answer.error["code"], answer.error["message"]) == ("bad_request", message)
    assert answer.error["hint"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("PATCH", "/v1/kv/a", 405, "bad_request"),
        ("POST", "/v1/kv", 405, "bad_request"),
        ("GET", "/v1/batch", 405, "bad_request"),
        ("GET", "/", 404, "no_such_path"),
        ("GET", "/v1/kvx", 404, "no_such_path"),
    ],
)
async def test_wrong_methods_and_paths(node: Serving, method: str, path: str, status: int, code: str) -> None:
    answer = await node.ask(method, path)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert ("Allow" in answer.headers) == (status == 405)


async def test_the_limit_of_a_value(node: Serving) -> None:
    whole = await node.ask("PUT", "/v1/kv/a", data=io.BytesIO(b"x" * MAX_VALUE_BYTES))
    assert whole.status == 200
    over = await node.ask("PUT", "/v1/kv/a", data=io.BytesIO(b"x" * (MAX_VALUE_BYTES + 1)))
    assert over.status == 413
    assert over.error == {
        "code": "value_too_large",
        "message": "the value is over the limit of 1048576 bytes",
        "hint": "split the value over several keys, or store it elsewhere and keep a reference",
        "limit_bytes": 1048576,
    }
    assert len((await node.ask("GET", "/v1/kv/a")).body) == MAX_VALUE_BYTES


async def test_a_value_over_the_limit_is_refused_before_it_was_sent(node: Serving) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
    assert b" 413 " in await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    writer.write(chunk * 17)
    assert b" 413 " in await asyncio.wait_for(reader.readline(), 5)
    writer.close()


async def test_expect_continue_is_answered(node: Serving) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert b" 100 " in await asyncio.wait_for(reader.readline(), 5)
    assert await reader.readline() == b"\r\n"
    writer.write(b"hi")
    assert b" 200 " in await asyncio.wait_for(reader.readline(), 5)
    writer.close()


async def test_what_is_not_http_gets_the_same_form(node: Serving) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(b"\x16\x03\x01 hello\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b'"code":"bad_request","message":"this is not a valid HTTP request' in answer
    writer.close()


async def test_ten_thousand_keys_in_pages(node: Serving) -> None:
    async def fill(first: int) -> None:
        operations = [
            {"op": "put", "key": f"many/{number:05}", "value_base64": "eA=="}
            for number in range(first, first + 100)
        ]
        assert (await node.ask("POST", "/v1/batch", json={"operations": operations})).status == 200

    await asyncio.gather(*(fill(first) for first in range(0, 10_000, 100)))
    await node.ask("PUT", "/v1/kv/many", data=b"not below the prefix")
    await node.ask("DELETE", "/v1/kv/many%2F00500")
    keys: list[str] = []
    after, pages = "", 0
    while after is not None:
        page = (await node.ask("GET", f"/v1/kv?prefix=many/&limit=1000&values=false{after}")).json
        assert all(set(item) == {"key", "position", "stamp"} for item in page["items"])
        keys += [item["key"] for item in page["items"]]
        pages += 1
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert keys == [f"many/{number:05}" for number in range(10_000) if number != 500]
    assert pages == 10


async def test_a_page_bounds_its_bytes(node: Serving) -> None:
    value = b"x" * (1024 * 1024)
    for number in range(6):
        await node.ask("PUT", f"/v1/kv/big{number}", data=value)
    page = (await node.ask("GET", "/v1/kv?prefix=big")).json
    assert len(page["items"]) == 4
    rest = (await node.ask("GET", f"/v1/kv?prefix=big&after={page['next']}")).json
    assert [item["key"] for item in rest["items"]] == ["big4", "big5"]
    assert base64.b64decode(rest["items"][0]["value_base64"]) == value
    assert rest["next"] is None


async def test_batch(node: Serving) -> None:
    operations = [
        {"op": "put", "key": "a", "value_base64": "YQ=="},
        {"op": "delete", "key": "b"},
        {"op": "put", "key": "%00", "value_base64": ""},
    ]
    done = await node.ask("POST", "/v1/batch", json={"operations": operations})
    results = done.json["results"]
    assert [result["key"] for result in results] == ["a", "b", "%00"]
    assert [result["position"] for result in results] == ["1.1", "1.2", "1.3"]
    assert all(set(result) == {"key", "position", "stamp"} for result in results)
    assert (await node.ask("GET", "/v1/kv/%00")).body == b""


@pytest.mark.parametrize(
    ("operations", "message"),
    [
        ([], "a batch has 1 to 100 operations, found 0"),
        ([{"op": "delete", "key": str(n)} for n in range(101)], "a batch has 1 to 100 operations, found 101"),
        ([{"op": "delete", "key": "a"}] * 2, "the operations of a batch must be on distinct keys"),
        (
            [{"op": "put", "key": "a"}],
            "the body of a batch: Object missing required field `value_base64` - at `$.operations[0]`",
        ),
        (
            [{"op": "delete", "key": "a", "value_base64": ""}],
            "the body of a batch: Object contains unknown field `value_base64` - at `$.operations[0]`",
        ),
        ([{"op": "move", "key": "a"}], "the body of a batch: Invalid value 'move' - at `$.operations[0].op`"),
        (
            [{"op": "delete", "key": "a", "tll": 5}],
            "the body of a batch: Object contains unknown field `tll`",
        ),
        ([{"op": "put", "key": "a", "value_base64": "?"}], "operation 0: value_base64 is not base64"),
    ],
)
async def test_wrong_batches(node: Serving, operations: list[dict[str, str]], message: str) -> None:
    answer = await node.ask("POST", "/v1/batch", json={"operations": operations})
    assert answer.status == 400
    assert answer.error["message"].startswith(message)
    assert (await node.ask("GET", "/v1/kv")).json == {"items": [], "next": None, "position": "0.0"}


async def test_a_batch_over_the_limit(node: Serving) -> None:
    half = base64.b64encode(b"x" * (600 * 1024)).decode()
    operations = [{"op": "put", "key": key, "value_base64": half} for key in "ab"]
    body = io.BytesIO(json.dumps({"operations": operations}).encode())
    answer = await node.ask("POST", "/v1/batch", data=body)
    assert (answer.status, answer.error["code"], answer.error["limit_bytes"]) == (
        413,
        "value_too_large",
        1048576,
    )
    assert answer.error["message"] == "the values of the batch together is over the limit of 1048576 bytes"


async def test_request_ids(node: Serving) -> None:
    headers = {"Grey-Request-Id": "retry-1"}
    first = await node.ask("PUT", "/v1/kv/a", data=b"1", headers=headers)
    assert "Grey-Replayed" not in first.headers
    await node.ask("PUT", "/v1/kv/a", data=b"2")
    again = await node.ask("PUT", "/v1/kv/a", data=b"1", headers=headers)
    assert (again.json, again.headers["Grey-Replayed"]) == (first.json, "true")
    assert (await node.ask("GET", "/v1/kv/a")).body == b"2"
    other = await node.ask("PUT", "/v1/kv/a", data=b"3", headers=headers)
    assert other.status == 422
    assert other.error["code"] == "request_id_reused"
    assert other.error["message"].startswith("the request id 'retry-1' was used before for another request")
    assert other.error["hint"] == "use a new Grey-Request-Id for each new request"
    wrong = await node.ask("PUT", "/v1/kv/a", data=b"3", headers={"Grey-Request-Id": "a b"})
    assert (wrong.status, wrong.error["code"]) == (400, "bad_request")
