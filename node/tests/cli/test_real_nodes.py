# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""grey-ctl and the client against real nodes: both sides of docs/reference/api.md agree."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from support.federation import RunningFederation, running_federation

from grey.cli.main import cli
from grey.client import (
    AsyncClient,
    BadRequest,
    Client,
    Consistency,
    Delete,
    NotPrimary,
    OutcomeUnknown,
    Put,
    RequestIdReused,
)
from grey.config.federation import load

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.processes

KEYS = [b"user:123", b".", b"..", b"a/../b", b"%2F", b"\x00", b"\xff\xfe", " ü?#&=+".encode()]


def run(federation: RunningFederation, *args: str) -> Result:
    tls = federation.operator
    config = federation.folder / "ctl.yaml"
    config.write_text(
        json.dumps(
            {
                "federations": {
                    "test": {
                        "federation_file": str(federation.file),
                        "tls": {
                            "cert_file": tls.cert_file,
                            "key_file": tls.key_file,
                            "ca_file": tls.ca_file,
                        },
                        "names": federation.names,
                    }
                }
            }
        ),
        encoding="utf-8",
    )
    return CliRunner(env={"GREY_CTL_CONFIG": str(config)}).invoke(cli, list(args), prog_name="grey-ctl")


def use_all_of_it(federation: RunningFederation) -> None:
    until = time.monotonic() + 15
    done = run(federation, "federation", "status", "--federation", "test")
    # A node that has just started has not heard of every voter and replica yet.
    while (done.stdout.count("● Replica") < 2 or "3 of 3" not in done.stdout) and time.monotonic() < until:
        time.sleep(0.1)
        done = run(federation, "federation", "status", "--federation", "test")
    assert done.exit_code == 0, done.output
    assert "│ aws-east      │ ● Primary  │ -            │" in done.stdout
    assert "│ edge-chicago  │ ● Replica  │" in done.stdout
    assert done.stdout.endswith("federation test, epoch 1, 3 of 3 voters reachable\n")
    done = run(federation, "federation", "verify", "--federation", "test", "-o", "json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["ok"], report["epoch"], report["primary"]) == (True, 1, "aws-east")
    assert [row["name"] for row in report["clusters"]] == ["aws-east", "gcp-west", "edge-chicago"]

    found = load(federation.file)
    with Client.from_federation(
        found, tls=federation.operator, names=federation.names, prefer="gcp-west"
    ) as client:
        for key in KEYS:
            client.put(key, key * 2)
            value = client.get(key, consistency=Consistency.STRONG)
            assert value is not None
            assert (value.value, value.cluster, value.origin) == (key * 2, "aws-east", "aws-east")
        assert [(item.key, item.value) for item in client.list("user:", cluster="aws-east")] == [
            (b"user:123", b"user:123user:123")
        ]
        everything = [item.key for item in client.list(page_size=3, cluster="aws-east")]
        assert everything == sorted(KEYS)
        assert client.delete("user:123").existed
        assert not client.delete("user:123").existed
        assert client.get("user:123", consistency=Consistency.STRONG) is None
        done = client.batch([Put("b1", b"1"), Delete("."), Delete("never")])
        assert [result.key for result in done] == [b"b1", b".", b"never"]
        assert done[2].position.sequence == done[0].position.sequence + 2

        first = client.put("once", b"1", request_id="once-1")
        again = client.put("once", b"1", request_id="once-1")
        assert (again.position, again.stamp, again.replayed) == (first.position, first.stamp, True)
        with pytest.raises(RequestIdReused):
            client.put("once", b"2", request_id="once-1")

        fresh = client.get("once", consistency=Consistency.bounded(0.5), cluster="aws-east")
        assert fresh is not None
        assert fresh.value == b"1"
        client.get("once", consistency=Consistency.bounded(5), cluster="gcp-west")
        with pytest.raises(NotPrimary) as refused:
            client.get("once", consistency=Consistency.STRONG, cluster="gcp-west")
        assert refused.value.primary is not None
        assert refused.value.primary.cluster == "aws-east"
        with pytest.raises(BadRequest):
            client.page(after="no such token", cluster="aws-east")


async def kill_the_primary_during_writes(federation: RunningFederation) -> None:
    """Every acknowledged write is there afterwards, and the client rides through the restart."""
    acknowledged: list[str] = []
    unknown: list[str] = []
    stop = asyncio.Event()

    async def write(client: AsyncClient, lane: int) -> None:
        number = 0
        while not stop.is_set():
            key = f"lane/{lane}/{number}"
            try:
                await client.put(key, key.encode())
            except OutcomeUnknown:
                unknown.append(key)
            else:
                acknowledged.append(key)
            number += 1

    async with AsyncClient.from_federation(
        load(federation.file), tls=federation.operator, names=federation.names, timeout_seconds=20
    ) as client:
        lanes = [asyncio.create_task(write(client, lane)) for lane in range(4)]
        await asyncio.sleep(0.3)
        federation.primary.kill()
        before = len(acknowledged)
        federation.primary.start()
        await federation.ready()
        await RunningFederation.until(lambda: more(acknowledged, before + 8), 20, "writes after the restart")
        stop.set()
        await asyncio.gather(*lanes)
        assert unknown == []
        for key in acknowledged:
            found = await client.get(key, consistency=Consistency.STRONG)
            assert found is not None, key
            assert found.value == key.encode()


async def more(found: list[str], count: int) -> bool:
    return len(found) >= count


async def test_real_nodes(tmp_path: Path) -> None:
    async with running_federation(tmp_path) as federation:
        await asyncio.to_thread(use_all_of_it, federation)
        await kill_the_primary_during_writes(federation)
