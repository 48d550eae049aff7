# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever speaks of an alarm names the same next step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from grey.cli.doctor import engine
from grey.link import etcd_alarm
from grey.link.etcd_health import MemberHealth
from grey.serve.translate import Translator
from grey.store.interface import QuotaExceeded

if TYPE_CHECKING:
    from grey.serve.view import NodeView

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "node-file.md"


def doctors_step(area: engine.Area, alarm: str) -> str | None:
    member = MemberHealth("e:1", "m", True, True, True, 1024, (f"memberID:1 alarm:{alarm} ",), None)
    return next(iter(engine._of_member(area, member, ""))).next


def test_the_api_the_doctor_and_the_node_say_the_same() -> None:
    answer = Translator(cast("NodeView", None))(QuotaExceeded("full"))
    assert answer is not None
    assert answer.hint == etcd_alarm.next_step("NOSPACE") == doctors_step(engine.ENGINE, "NOSPACE")
    assert etcd_alarm.next_step("CORRUPT") == doctors_step(engine.ENGINE, "CORRUPT")
    assert etcd_alarm.next_step("NEW") == doctors_step(engine.ENGINE, "NEW") == "see etcdctl alarm list"


def test_the_federation_store_is_not_greyds_to_tidy() -> None:
    step = doctors_step(engine.STORE, "NOSPACE")
    assert step is not None
    assert "etcdctl alarm disarm" in step
    assert "greyd" not in step


def test_the_reference_says_it_too() -> None:
    text = " ".join(REFERENCE.read_text().split())
    for words in ("within some minutes", "restart engine and greyd, one node after the other"):
        assert words in text
        assert words in etcd_alarm.next_step("NOSPACE")
