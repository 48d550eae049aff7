# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key-value API when it must not answer, or cannot: replicas, fences, faults, too much at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from grey.data.errors import OutcomeUnknown, Overloaded
from grey.data.fence import DeadlinePassed
from grey.serve.metrics import Figures
from grey.store.interface import DiskFull, QuotaExceeded, StoreDamaged, StoreStatus

if TYPE_CHECKING:
    from typing import Any

    from support.serving import Serving

    from grey.store.interface import Page


async def test_a_replica_names_the_primary(node: Serving) -> None:
    await node.ask("PUT", "/v1/kv/a", data=b"1")
    node.role.become_replica()
    for method, path in (("PUT", "/v1/kv/a"), ("DELETE", "/v1/kv/a"), ("GET", "/v1/kv/a?consistency=strong")):
        answer = await node.ask(method, path)
        assert answer.status == 421
        assert answer.error == {
            "code": "not_primary",
            "message": "aws-east is a replica, the primary is gcp-west",
            "hint": "send this request to gcp-west.example.com:8080",
            "primary": {"cluster": "gcp-west", "endpoint": "gcp-west.example.com:8080"},
        }
    got = await node.ask("GET", "/v1/kv/a")
    assert (got.body, got.headers["Grey-Lag-Seconds"]) == (b"1", "0.250000")
    node.role.become_replica(None)
    nobody = await node.ask("PUT", "/v1/kv/a")
    assert (nobody.status, nobody.error["primary"]) == (421, None)


async def test_bounded_reads(node: Serving) -> None:
    await node.ask("PUT", "/v1/kv/a", data=b"1")
    path = "/v1/kv/a?consistency=bounded&max_staleness=300ms"
    assert (await node.ask("GET", path)).status == 200
    node.role.become_replica()
    assert (await node.ask("GET", path)).body == b"1"
    node.replication.lag = 0.4
    stale = await node.ask("GET", path)
    assert stale.status == 503
    assert stale.error == {
        "code": "too_stale",
        "message": "the data at aws-east is up to 0.400 s old, the read allows 0.3 s",
        "hint": "send this read to gcp-west.example.com:8080, or allow a larger max_staleness",
        "primary": {"cluster": "gcp-west", "endpoint": "gcp-west.example.com:8080"},
        "lag_seconds": 0.4,
    }
    node.replication.lag = None
    assert (await node.ask("GET", path)).error["lag_seconds"] is None


async def test_a_passed_deadline_fences(node: Serving) -> None:
    node.role.miss_deadline()
    for method, path in (("PUT", "/v1/kv/a"), ("GET", "/v1/kv/a?consistency=strong")):
        answer = await node.ask(method, path)
        assert answer.status == 503
        assert answer.error["code"] == "fenced"
        assert answer.error["message"] == (
            "aws-east holds the primary role but could not confirm it in time: nothing was written"
        )
    assert (await node.ask("GET", "/v1/kv/a")).status == 404


async def test_a_deadline_that_passes_during_a_strong_read(node: Serving) -> None:
    await node.ask("PUT", "/v1/kv/a", data=b"1")
    node.role.epochs = [1, DeadlinePassed()]
    assert (await node.ask("GET", "/v1/kv/a?consistency=strong")).error["code"] == "fenced"
    node.role.epochs = [1, 2]
    assert (await node.ask("GET", "/v1/kv/a?consistency=strong")).error["code"] == "fenced"
    assert (await node.ask("GET", "/v1/kv/a?consistency=strong")).body == b"1"


async def test_a_deadline_that_passes_during_a_write(node: Serving) -> None:
    node.role.epochs = [1, DeadlinePassed()]
    answer = await node.ask("PUT", "/v1/kv/a", data=b"1")
    assert (answer.status, answer.error["code"]) == (504, "outcome_unknown")
    assert answer.error["hint"] == "retry with the same Grey-Request-Id: it is then carried out at most once"


async def test_a_deadline_that_passes_between_the_commit_and_the_answer(node: Serving) -> None:
    for method, path, body in (
        ("PUT", "/v1/kv/a", {"data": b"1"}),
        ("DELETE", "/v1/kv/a", {}),
        ("POST", "/v1/batch", {"json": {"operations": [{"op": "delete", "key": "a"}]}}),
    ):
        node.role.epochs = [1, 1, DeadlinePassed()]
        answer = await node.ask(method, path, **body)
        assert (answer.status, answer.error["code"]) == (504, "outcome_unknown")
        assert not node.role.epochs


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (OutcomeUnknown("x"), 504, "outcome_unknown"),
        (Overloaded(9), 503, "overloaded"),
        (DiskFull("no room"), 507, "disk_full"),
        (QuotaExceeded("quota"), 507, "disk_full"),
        (StoreDamaged("page 7"), 503, "unavailable"),
    ],
)
async def test_faults_of_the_data(
    node: Serving, monkeypatch: pytest.MonkeyPatch, fault: Exception, status: int, code: str
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(node.writer, "put", fail)
    answer = await node.ask("PUT", "/v1/kv/a", data=b"1")
    assert (answer.status, answer.error["code"], answer.error["message"]) == (status, code, str(fault))
    assert answer.headers.get("Retry-After") == ("1" if code == "overloaded" else None)


async def test_a_fault_of_the_node_has_an_incident(
    node: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(node.writer, "put", fail)
    answer = await node.ask("PUT", "/v1/kv/a", data=b"1")
    incident = answer.error["incident"]
    assert (answer.status, answer.error["code"]) == (500, "internal")
    assert b"secret detail" not in answer.body
    assert f"incident={incident}" in caplog.text
    assert "secret detail" in caplog.text


async def test_a_full_copy_serves_nothing(node: Serving) -> None:
    node.role.become_replica()
    node.replication.whole = False
    answer = await node.ask("GET", "/v1/kv/a")
    assert (answer.status, answer.error["code"]) == (503, "unavailable")
    assert answer.error["message"] == "aws-east cannot serve: a full copy from the primary is under way"


async def test_too_many_at_once_are_shed(node: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    async def slow(_: bytes, *, serializable: bool) -> None:
        entered.set()
        await release.wait()

    monkeypatch.setattr(node.api._reader, "get", slow)
    monkeypatch.setattr(node.door, "_max_waiting", 1)
    first = asyncio.create_task(node.ask("GET", "/v1/kv/a"))
    await entered.wait()
    shed = await node.ask("GET", "/v1/kv/a")
    assert (shed.status, shed.error["code"], shed.headers["Retry-After"]) == (503, "overloaded", "1")
    release.set()
    assert (await first).status == 404
    assert (await node.ask("GET", "/v1/kv/a")).status == 404


async def test_a_client_that_goes_away_is_no_fault(node: Serving, caplog: pytest.LogCaptureFixture) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
    await writer.drain()
    writer.close()
    async with asyncio.timeout(5):
        while b'result="client_gone"' not in node.metrics.text(_figures()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (await node.ask("GET", "/v1/kv/a")).status == 404
    assert not caplog.records


async def test_operations_are_counted(node: Serving) -> None:
    await node.ask("PUT", "/v1/kv/a", data=b"1")
    await node.ask("GET", "/v1/kv/a")
    await node.ask("GET", "/v1/kv/b")
    text = node.metrics.text(_figures()).decode()
    assert 'grey_operations_total{operation="put",result="ok"} 1.0' in text
    assert 'grey_operations_total{operation="get",result="ok"} 1.0' in text
    assert 'grey_operations_total{operation="get",result="not_found"} 1.0' in text
    assert node.metrics.operations_done == 3


def _figures() -> Figures:
    return Figures(
        role="primary",
        epoch=1,
        sequence=1,
        lag_seconds=None,
        lag_records=None,
        leader=True,
        engine_up=True,
        store=StoreStatus(5, 1, 4096, members=3, reachable=2),
        role_deadline_seconds=1.0,
        federation_store_up=True,
        certificate_expiry_seconds=1.0,
    )


def test_the_alarms_of_the_engine_are_a_metric(node: Serving) -> None:
    def shown(store: StoreStatus | None) -> list[str]:
        text = node.metrics.text(msgspec.structs.replace(_figures(), store=store)).decode()
        return [line for line in text.splitlines() if line.startswith("grey_engine_alarm")]

    quiet = ['grey_engine_alarm{alarm="NOSPACE"} 0.0', 'grey_engine_alarm{alarm="CORRUPT"} 0.0']
    assert shown(StoreStatus(5, 1, 4096)) == quiet
    raised = [quiet[0], 'grey_engine_alarm{alarm="CORRUPT"} 1.0', 'grey_engine_alarm{alarm="NEW"} 1.0']
    assert shown(StoreStatus(5, 1, 4096, alarms=("CORRUPT", "NEW"))) == raised
    assert shown(StoreStatus(5, 1, 4096)) == quiet
    assert shown(None) == []


def test_who_needs_a_full_copy_is_a_metric(node: Serving) -> None:
    def shown(needs: dict[str, bool]) -> list[str]:
        text = node.metrics.text(msgspec.structs.replace(_figures(), needs_full_copy=needs)).decode()
        return [line for line in text.splitlines() if line.startswith("grey_replication_needs")]

    assert shown({"a": True, "b": False}) == [
        'grey_replication_needs_full_copy{cluster="a"} 1.0',
        'grey_replication_needs_full_copy{cluster="b"} 0.0',
    ]
    assert shown({}) == []


async def test_a_listing_whose_state_is_compacted_while_it_is_read(
    node: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that is nearly full is compacted up to its newest revision."""
    await node.ask("PUT", "/v1/kv/a", data=b"1")
    shipped = node.store.range

    async def overtaken(*args: Any, **options: Any) -> Page:
        page = await shipped(*args, **options)
        await node.writer.put(b"b", b"1")
        await node.store.compact((await node.store.status()).revision)
        return page

    monkeypatch.setattr(node.store, "range", overtaken)
    refused = await node.ask("GET", "/v1/kv")
    assert (refused.status, refused.error["code"], refused.error["hint"]) == (503, "unavailable", "try again")
    monkeypatch.undo()
    assert (await node.ask("GET", "/v1/kv")).status == 200
