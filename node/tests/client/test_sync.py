# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The synchronous client: the same code, from threads."""

from __future__ import annotations

import gc
import inspect
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec
import pytest
from support.fake_api import freeze
from support.model_federation import federation

from grey.client import AsyncClient, Client, Consistency, Delete, OutcomeUnknown, Put, Value

if TYPE_CHECKING:
    from support.fake_api import FakeFederation


def test_everything_works_without_await(fake: FakeFederation) -> None:
    with Client(fake.endpoints, prefer="gcp-west", primary="aws-east") as client:
        assert client.primary == "aws-east"
        assert client.put("a", b"1").position.sequence == 1
        found = client.get("a", consistency=Consistency.bounded(5))
        assert found is not None
        assert (found.value, found.cluster) == (b"1", "gcp-west")
        assert len(client.batch([Put("b", b"2"), Put("c", b"3"), Delete("a")])) == 3
        assert [item.key for item in client.list(page_size=1)] == [b"b", b"c"]
        assert [len(page.items) for page in client.pages(page_size=1)] == [1, 1]
        assert client.page(limit=1).next is not None
        assert client.delete("b").existed
        assert client.get("b") is None


def test_both_clients_have_the_same_calls() -> None:
    for name, method in inspect.getmembers(AsyncClient, inspect.isfunction):
        if not name.startswith("_"):
            ours = inspect.signature(getattr(Client, name))
            assert ours.parameters == inspect.signature(method).parameters, name


def test_errors_come_through(fake: FakeFederation) -> None:
    fake["aws-east"].script.append(freeze)
    with Client(fake.endpoints[:1]) as client, pytest.raises(OutcomeUnknown) as failed:
        client.put("k", b"", request_id="r", timeout_seconds=2)
    assert failed.value.request_id == "r"


def test_a_listing_that_is_left_early_leaves_nothing_behind(fake: FakeFederation) -> None:
    for number in range(10):
        fake.put(b"%d" % number, b"")
    with Client(fake.endpoints) as client:
        assert next(iter(client.list(page_size=2))).key == b"0"
        gc.collect()
        assert len(list(client.list(page_size=2))) == 10


def test_threads_share_a_client(fake: FakeFederation) -> None:
    with Client(fake.endpoints) as client, ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda number: client.put(b"%d" % number, b"x").position.sequence, range(200)))
        assert sorted(done) == list(range(1, 201))
        assert list(pool.map(lambda number: client.get(b"%d" % number).value, range(200))) == [b"x"] * 200


def test_closing_ends_the_thread_and_happens_once(fake: FakeFederation) -> None:
    before = threading.active_count()
    client = Client(fake.endpoints)
    client.get("k")
    assert threading.active_count() == before + 1
    client.close()
    client.close()
    assert threading.active_count() == before
    with pytest.raises(RuntimeError):
        client.get("k")


def test_closing_does_not_wait_for_a_call_of_another_thread(fake: FakeFederation) -> None:
    fake["aws-east"].script.append(freeze)
    client = Client(fake.endpoints[:1])
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.get, "k")
        assert fake.seen("aws-east", 20)
        client.close()
        assert "this client was closed" in str(call.exception(20))


def test_from_a_federation_file() -> None:
    found = federation("a", "b", primary="b")
    found = msgspec.structs.replace(found, security=msgspec.structs.replace(found.security, api_tls="off"))
    with Client.from_federation(found, prefer="a", names={"a.example.com": ["127.0.0.1"]}) as client:
        assert client.primary == "b"


def test_a_program_that_forgets_to_close_still_ends(fake: FakeFederation) -> None:
    program = (
        "from grey.client import Client, ClusterEndpoint\n"
        f"client = Client([ClusterEndpoint('a', '{fake['aws-east'].endpoint}')])\n"
        "print(client.get('k'))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "None\n")


def test_a_read_happens_at_the_call(fake: FakeFederation) -> None:
    """So ``get(key).consistency(...)`` is the asynchronous client's alone (client.md says why)."""
    fake.put(b"a", b"1")
    with Client(fake.endpoints, prefer="gcp-west", primary="aws-east") as client:
        found = client.get("a")
        assert type(found) is Value
        assert not hasattr(found, "consistency")
        assert client.get("none") is None
