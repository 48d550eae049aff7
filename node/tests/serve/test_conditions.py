# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Conditional requests, times to live, and pages of one snapshot."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import pytest

from grey.record import Position
from grey.serve import parameters

if TYPE_CHECKING:
    from support.serving import Serving


async def test_an_etag_is_the_position(node: Serving) -> None:
    put = await node.ask("PUT", "/v1/kv/a", data=b"1")
    assert put.headers["ETag"] == '"1.1"'
    got = await node.ask("GET", "/v1/kv/a")
    assert got.headers["ETag"] == '"1.1"'
    gone = await node.ask("DELETE", "/v1/kv/a")
    assert gone.headers["ETag"] == '"1.2"'
    assert "ETag" not in (await node.ask("DELETE", "/v1/kv/a")).headers


async def test_a_get_of_what_the_client_holds(node: Serving) -> None:
    await node.ask("PUT", "/v1/kv/a?ttl=1h", data=b"1")
    for held in ('"1.1"', 'W/"1.1"', '"0.7" , "1.1"', "*"):
        same = await node.ask("GET", "/v1/kv/a", headers={"If-None-Match": held})
        assert (same.status, same.body) == (304, b"")
        assert (same.headers["ETag"], same.headers["Grey-Position"]) == ('"1.1"', "1.1")
        assert "Grey-Expires" in same.headers
    for other in ('"1.2"', "1.1", "nonsense", '"1.1'):
        assert (await node.ask("GET", "/v1/kv/a", headers={"If-None-Match": other})).body == b"1"
    assert (await node.ask("GET", "/v1/kv/b", headers={"If-None-Match": "*"})).status == 404


async def test_put_if_absent(node: Serving) -> None:
    absent = {"If-None-Match": "*"}
    assert (await node.ask("PUT", "/v1/kv/a", data=b"1", headers=absent)).status == 200
    second = await node.ask("PUT", "/v1/kv/a", data=b"2", headers=absent)
    assert second.status == 412
    assert second.error == {
        "code": "condition_failed",
        "message": "the key a is at position 1.1, which is not what the request demands: nothing was written",
        "hint": "read the key again, and decide anew",
        "key": "a",
        "position": "1.1",
    }
    await node.ask("DELETE", "/v1/kv/a")
    assert (await node.ask("PUT", "/v1/kv/a", data=b"3", headers=absent)).status == 200


async def test_put_and_delete_at_a_position(node: Serving) -> None:
    await node.ask("PUT", "/v1/kv/a", data=b"1")
    first = {"If-Match": '"1.1"'}
    assert (await node.ask("PUT", "/v1/kv/a", data=b"2", headers=first)).json["position"] == "1.2"
    for method in ("PUT", "DELETE"):
        late = await node.ask(method, "/v1/kv/a", headers=first)
        assert (late.status, late.error["position"]) == (412, "1.2")
        missing = await node.ask(method, "/v1/kv/none", headers=first)
        assert (missing.status, missing.error["position"]) == (412, None)
    assert (await node.ask("DELETE", "/v1/kv/a", headers={"If-Match": '"1.2"'})).json["existed"]


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("PUT", "/v1/kv/a", {"If-None-Match": '"1.1"'}),
        ("PUT", "/v1/kv/a", {"If-None-Match": "*", "If-Match": '"1.1"'}),
        ("PUT", "/v1/kv/a", {"If-Match": "*"}),
        ("PUT", "/v1/kv/a", {"If-Match": 'W/"1.1"'}),
        ("PUT", "/v1/kv/a", {"If-Match": '"1.1", "1.2"'}),
        ("PUT", "/v1/kv/a", {"If-Match": '"1"'}),
        ("PUT", "/v1/kv/a", {"If-Match": '"1.99999999999999999999"'}),
        ("DELETE", "/v1/kv/a", {"If-None-Match": "*"}),
        ("POST", "/v1/batch", {"If-Match": '"1.1"'}),
    ],
)
async def test_conditions_that_cannot_be_meant(
    node: Serving, method: str, path: str, headers: dict[str, str]
) -> None:
    """A condition that is overlooked would write what must not be written."""
    answer = await node.ask(method, path, headers=headers)
    assert (answer.status, answer.error["code"]) == (400, "bad_request")
    assert (await node.ask("GET", "/v1/kv/a")).status == 404


async def test_a_batch_with_conditions(node: Serving) -> None:
    await node.ask("PUT", "/v1/kv/a", data=b"1")
    operations = [
        {"op": "put", "key": "new", "value_base64": "eA==", "if_absent": True, "ttl": "1h"},
        {"op": "delete", "key": "a", "if_position": "1.7"},
    ]
    refused = await node.ask("POST", "/v1/batch", json={"operations": operations})
    assert (refused.status, refused.error["code"]) == (412, "condition_failed")
    assert (refused.error["key"], refused.error["position"]) == ("a", "1.1")
    assert (await node.ask("GET", "/v1/kv/new")).status == 404
    operations[1]["if_position"] = "1.1"
    done = await node.ask("POST", "/v1/batch", json={"operations": operations})
    assert done.status == 200
    assert "Grey-Expires" in (await node.ask("GET", "/v1/kv/new")).headers
    assert (await node.ask("GET", "/v1/kv/a")).status == 404


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (
            {"op": "delete", "key": "a", "if_absent": True},
            "the body of a batch: Object contains unknown field `if_absent` - at `$.operations[0]`",
        ),
        (
            {"op": "put", "key": "a", "value_base64": "", "if_absent": True, "if_position": "1.1"},
            "operation 0: if_absent and if_position cannot both hold",
        ),
        (
            {"op": "put", "key": "a", "value_base64": "", "if_position": "1"},
            "operation 0: if_position: a position is written EPOCH.SEQUENCE, for example 1.42, not '1'",
        ),
        ({"op": "put", "key": "a", "value_base64": "", "ttl": "0s"}, "ttl must be 1s to 3650d, found '0s'"),
    ],
)
async def test_wrong_batches(node: Serving, operation: dict[str, object], message: str) -> None:
    answer = await node.ask("POST", "/v1/batch", json={"operations": [operation]})
    assert (answer.status, answer.error["message"]) == (400, message)


async def test_a_time_to_live_is_shown(node: Serving) -> None:
    before = datetime.datetime.now(datetime.UTC)
    await node.ask("PUT", "/v1/kv/a?ttl=90m", data=b"1")
    await node.ask("PUT", "/v1/kv/b", data=b"1")
    text = (await node.ask("GET", "/v1/kv/a")).headers["Grey-Expires"]
    expires = datetime.datetime.fromisoformat(text)
    assert text.endswith("Z")
    assert datetime.timedelta(minutes=85) < expires - before < datetime.timedelta(minutes=95)
    items = (await node.ask("GET", "/v1/kv")).json["items"]
    assert [item.get("expires") for item in items] == [text, None]
    assert "Grey-Expires" not in (await node.ask("GET", "/v1/kv/b")).headers


async def test_all_pages_show_one_state(node: Serving) -> None:
    for key in "abcd":
        await node.ask("PUT", f"/v1/kv/{key}", data=b"old")
    first = (await node.ask("GET", "/v1/kv?limit=2")).json
    assert first["position"] == "1.4"
    await node.ask("PUT", "/v1/kv/c", data=b"new")
    await node.ask("PUT", "/v1/kv/bb", data=b"new")
    await node.ask("DELETE", "/v1/kv/d")
    rest = (await node.ask("GET", f"/v1/kv?after={first['next']}")).json
    assert [(item["key"], item["value_base64"]) for item in rest["items"]] == [("c", "b2xk"), ("d", "b2xk")]
    assert (rest["next"], rest["position"]) == (None, "1.4")


async def test_a_state_that_is_gone(node: Serving) -> None:
    for key in "abcd":
        await node.ask("PUT", f"/v1/kv/{key}", data=b"old")
    first = (await node.ask("GET", "/v1/kv?limit=2")).json
    await node.ask("PUT", "/v1/kv/c", data=b"new")
    await node.ask("PUT", "/v1/kv/e", data=b"new")
    await node.store.compact((await node.store.status()).revision)
    gone = await node.ask("GET", f"/v1/kv?after={first['next']}")
    assert (gone.status, gone.error["code"]) == (410, "compacted")
    rest = (await node.ask("GET", f"/v1/kv?after={gone.error['next']}")).json
    assert [item["key"] for item in rest["items"]] == ["c", "d", "e"]
    assert rest["position"] == "1.6"


async def test_a_state_that_is_yet_to_come_or_was_given_up(node: Serving) -> None:
    await node.ask("PUT", "/v1/kv/a", data=b"1")
    node.role.become_replica()
    ahead = await node.ask("GET", f"/v1/kv?after={parameters.token(b'a', Position(1, 9))}")
    assert (ahead.status, ahead.error["code"], ahead.error["lag_seconds"]) == (503, "too_stale", 0.25)
    assert ahead.error["primary"]["cluster"] == "gcp-west"
    other = await node.ask("GET", f"/v1/kv?after={parameters.token(b'a', Position(0, 1))}")
    assert (other.status, other.error["code"]) == (409, "diverged")


async def test_a_missing_key_says_who_looked(node: Serving) -> None:
    node.role.become_replica()
    missing = await node.ask("GET", "/v1/kv/a")
    assert (missing.status, missing.headers["Grey-Cluster"]) == (404, "aws-east")
    assert missing.headers["Grey-Lag-Seconds"] == "0.250000"
    listed = await node.ask("GET", "/v1/kv")
    assert (listed.headers["Grey-Cluster"], listed.headers["Grey-Lag-Seconds"]) == ("aws-east", "0.250000")
