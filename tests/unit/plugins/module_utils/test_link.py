# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measuring between sites: bounded, only for those who know the token, and nothing stays."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
from ansible_collections.grey.distributed.plugins.module_utils import _link, _reach
from ansible_collections.grey.distributed.tests.unit.harness import fails, passes

TOKEN = "a" * 32
HERE = "127.0.0.1"


@pytest.fixture
def listener() -> Iterator[_link.Listener]:
    made = _link.Listener(HERE, 0, TOKEN, 60)
    thread = threading.Thread(target=made.serve)
    thread.start()
    yield made
    _link.stop(HERE, made.port, TOKEN)
    thread.join(10)
    assert not thread.is_alive()


def free_port() -> int:
    with socket.create_server((HERE, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_all_is_measured(listener: _link.Listener) -> None:
    found = _link.measure(HERE, listener.port, TOKEN, seconds=0.2, size=100_000)
    assert found.problem == ""
    assert found.round_trip_ms is not None and found.round_trip_ms > 0
    # One machine has one clock.
    assert found.offset_ms is not None and found.offset_error_ms is not None
    assert abs(found.offset_ms) <= found.offset_error_ms + 0.01
    assert found.to_mbit is not None and found.to_mbit > 0
    assert found.from_mbit is not None and found.from_mbit > 0


def test_without_a_size_no_bandwidth_is_measured(listener: _link.Listener) -> None:
    found = _link.measure(HERE, listener.port, TOKEN, seconds=0.2, size=0)
    assert found.to_mbit is None and found.from_mbit is None
    assert found.round_trip_ms is not None


def test_another_token_is_hung_up_on(listener: _link.Listener) -> None:
    found = _link.measure(HERE, listener.port, "b" * 32, seconds=0.1, size=10)
    assert found.problem == "hung up: another run's listener, or none of ours"
    with socket.create_connection((HERE, listener.port), timeout=5) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):  # it hangs up without reading on
            assert stranger.recv(100) == b""
    assert _link.measure(HERE, listener.port, TOKEN, seconds=0.1, size=0).problem == ""


def test_what_is_sent_is_bounded_on_both_sides(
    listener: _link.Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_link, "MOST_BYTES", 200_000)
    with _link._open(HERE, listener.port, TOKEN, f"give 5 {10**9}") as greedy:
        assert _link._count(greedy)[0] == 200_000


def test_a_listener_ends_by_itself() -> None:
    made = _link.Listener(HERE, 0, TOKEN, 0.05)
    made.serve()
    assert not _link.stop(HERE, made.port, TOKEN)


def test_the_module_listens_measures_and_leaves_nothing() -> None:
    port = free_port()
    common = {"port": port, "token": TOKEN}
    here = {**common, "address": HERE}
    peers = {"a1": {"address": HERE, "control_port": free_port()}}
    assert passes("grey_link", {**here, "state": "listening", "seconds": 30})["listening"]
    busy = passes("grey_link", {**here, "state": "listening", "seconds": 30})
    assert (busy["listening"], busy["problem"]) == (False, "Address already in use")
    [link] = passes("grey_link", {**common, "state": "measured", "size": 1000, "peers": peers})["links"]
    assert (link["host"], link["by"], link["problem"]) == ("a1", "listener", "")
    assert passes("grey_link", {**here, "state": "stopped"})["listening"]
    # The process may take a moment to be gone.
    for _wait in iter(lambda: _reach.reach(HERE, port).state == "refused", True):
        pass
    assert not passes("grey_link", {**here, "state": "stopped"})["listening"]
    [link] = passes("grey_link", {**common, "state": "measured", "peers": peers})["links"]
    assert (link["by"], link["problem"]) == ("connect", "Connection refused")
    assert link["round_trip_ms"] > 0


def test_wrong_parameters() -> None:
    assert fails("grey_link", {"state": "listening", "port": 1, "token": "x"}) == (
        "state is listening but all of the following are missing: address"
    )
    assert fails("grey_link", {}) == "missing required arguments: port, state, token"
