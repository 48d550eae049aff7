# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking control planes: who is believed, and that it ends in time."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.grey.distributed.plugins.module_utils import _control_plane
from ansible_collections.grey.distributed.plugins.module_utils._control_plane import (
    Endpoint,
    Live,
    Silence,
    Tls,
)
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError
from ansible_collections.grey.distributed.tests.unit.plugins.inventory.plane import Plane, Trust, document

NAME = "aws-east.grey.internal"


class World:
    """Control planes that are up, and an operator who asks them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.trust = Trust(folder)
        self.operator = self.trust.issue("operator")
        self._stack = stack

    def plane(self, answer: Any, *, tls: Tls | None = None, status: int = 200) -> Endpoint:
        plane = Plane(tls or self.trust.issue("node", NAME), answer, status)
        self._stack.callback(plane.close)
        return Endpoint(NAME, "127.0.0.1", plane.port)

    def ask(
        self, *endpoints: Endpoint, timeout: float = 5.0, names: dict[str, list[str]] | None = None
    ) -> Live | Silence:
        context = _control_plane.context(self.operator)
        return _control_plane.ask(
            endpoints, context, names or {}, federation="fleet", timeout_seconds=timeout
        )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path, stack)


def reason(answer: Live | Silence) -> str:
    assert isinstance(answer, Silence), answer
    (only,) = answer.reasons
    return only.partition(": ")[2]


def test_the_live_roles(world: World) -> None:
    before = int(time.time())
    live = world.ask(world.plane(document("gcp-west")))
    assert isinstance(live, Live)
    assert (live.federation, live.epoch, live.primary, live.answered_by) == (
        "fleet",
        7,
        "gcp-west",
        "aws-east-1",
    )
    assert live.clusters["gcp-west"] == ("primary", True)
    assert before <= live.asked_at <= time.time()


def test_names_are_asked_before_dns(world: World) -> None:
    endpoint = world.plane(document("gcp-west"))
    named = Endpoint(endpoint.identity, "Grey-East.invalid.", endpoint.port)
    assert isinstance(world.ask(named, names={"grey-east.invalid": ["127.0.0.1"]}), Live)


def test_one_answer_is_enough(world: World, free_port: int) -> None:
    """Dead and silent ones beside it neither hide it nor hold it back."""
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        others = [Endpoint(NAME, "127.0.0.1", port) for port in (free_port, silent.getsockname()[1])]
        started = time.monotonic()
        assert isinstance(world.ask(*others, world.plane(document("gcp-west")), timeout=30), Live)
        assert time.monotonic() - started < 15


def test_silence_ends_in_time(world: World) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        endpoint = Endpoint(NAME, "127.0.0.1", silent.getsockname()[1])
        started = time.monotonic()
        answer = world.ask(endpoint, timeout=0.3)
        assert time.monotonic() - started < 5
    assert isinstance(answer, Silence)
    assert str(answer).startswith(f"{NAME} at 127.0.0.1:{endpoint.port}: no answer")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            document("aws-east", voters={"total": 3, "reachable": 1}),
            "it reaches 1 of 3 voters, so its roles may be outdated",
        ),
        (document(None), "there has been no primary yet"),
        (
            document("aws-east", federation="other"),
            "wanted the federation fleet, found other; check the federation file and the addresses",
        ),
        ({"federation": "fleet"}, "wanted the status document, found one without 'voters'"),
        (b"<html>", "wanted the status in JSON, found status 200 and 6 other bytes"),
    ],
)
def test_an_answer_that_does_not_count(world: World, answer: Any, said: str) -> None:
    assert reason(world.ask(world.plane(answer))) == said


def test_a_refusal_says_why(world: World) -> None:
    refusal = {"error": {"code": "forbidden", "message": "the certificate edge is not admitted"}}
    assert (
        reason(world.ask(world.plane(refusal, status=403)))
        == "forbidden: the certificate edge is not admitted"
    )


def test_another_name_or_authority_is_not_believed(world: World, tmp_path: Path) -> None:
    answer = document("edge-chicago")
    other = world.plane(answer, tls=world.trust.issue("other", "gcp-west.grey.internal"))
    foreign = world.plane(answer, tls=Trust(tmp_path / "foreign").issue("node", NAME))
    for endpoint in (other, foreign):
        assert reason(world.ask(endpoint)).startswith("its certificate is not trusted for that name: ")


def test_status_words_of_another_version_are_unknown() -> None:
    clusters = [{"name": "aws-east", "status": "{{ lookup('pipe', 'id') }}", "online": 1}]
    read = _control_plane.read(document("aws-east", clusters=clusters), "fleet", 1)
    assert isinstance(read, Live) and read.clusters == {"aws-east": ("unknown", True)}


def test_a_key_with_a_password_is_refused_without_a_prompt(world: World) -> None:
    path = world.operator.key_file
    subprocess.run(
        ["openssl", "ec", "-in", path, "-out", path, "-aes256", "-passout", "pass:secret"],
        check=True,
        capture_output=True,
    )
    with pytest.raises(
        GreyError, match=r"wanted a certificate and its key in PEM, without a password, found: "
    ):
        _control_plane.context(world.operator)


def test_a_missing_file_is_named(world: World, tmp_path: Path) -> None:
    missing = Tls(world.operator.cert_file, world.operator.key_file, str(tmp_path / "none.pem"))
    with pytest.raises(
        GreyError, match=r"none\.pem: wanted the authorities of the federation in PEM, found: No such file"
    ):
        _control_plane.context(missing)


def test_the_cached_form_is_read_back_and_nothing_else_is() -> None:
    live = _control_plane.read(document("gcp-west"), "fleet", 5)
    assert isinstance(live, Live)
    assert _control_plane.restored(live.plain(), "fleet") == live
    assert _control_plane.restored(live.plain(), "other") is None
    for damaged in (None, [], {}, {**live.plain(), "epoch": "x"}, {**live.plain(), "clusters": {"a": 1}}):
        assert _control_plane.restored(damaged, "fleet") is None


@pytest.fixture
def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as used:
        return int(used.getsockname()[1])
