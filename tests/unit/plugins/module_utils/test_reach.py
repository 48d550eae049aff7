# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports of other hosts: an answer is a round trip, a refusal too, and silence is none."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from ansible_collections.grey.distributed.plugins.module_utils import _reach


@pytest.fixture
def open_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that drops connects, as a firewall does: its queue is full."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        waiting = []
        for _each in range(3):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            waiting.append(one)
        yield port
        for one in waiting:
            one.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_an_open_port_and_a_refused_one_both_have_a_round_trip(open_port: int) -> None:
    found = _reach.reach_all([("127.0.0.1", open_port), ("127.0.0.1", free_port())], samples=3)
    assert [each.state for each in found] == ["open", "refused"]
    assert all(each.round_trip_ms is not None and each.round_trip_ms > 0 for each in found)


def test_silence_is_no_round_trip(silent_port: int) -> None:
    found = _reach.reach("127.0.0.1", silent_port, timeout_seconds=0.2)
    assert found == _reach.Reached("silent", problem="no answer within 0.2 s")


def test_the_network_may_say_that_there_is_no_way() -> None:
    found = _reach.reach("255.255.255.255", 9)
    assert found.state == "unreachable"
    assert found.problem


def test_the_longest_round_trip_needs_one_answer(open_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _reach.longest_ms([]) is None
    assert _reach.longest_ms([f"127.0.0.1:{open_port}"]) is not None
    answers = {
        9: _reach.Reached("silent"),
        10: _reach.Reached("refused", 70.5),
        11: _reach.Reached("open", 3.0),
    }
    monkeypatch.setattr(_reach, "reach", lambda _address, port, **_: answers[port])
    assert _reach.longest_ms(["192.0.2.1:9", "192.0.2.2:10", "[2001:db8::1]:11"]) == 70.5
    assert _reach.longest_ms(["192.0.2.1:9"]) is None


def test_endpoints_are_split() -> None:
    assert _reach.split("192.0.2.1:2380") == ("192.0.2.1", 2380)
    assert _reach.split("[2001:db8::1]:2380") == ("2001:db8::1", 2380)
