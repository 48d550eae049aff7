# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's clock: only what is certainly off counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.grey.distributed.plugins.action import grey_preflight
from ansible_collections.grey.distributed.plugins.module_utils import _clock
from ansible_collections.grey.distributed.plugins.module_utils._clock import Bounds
from ansible_collections.grey.distributed.tests.unit.harness import program


def test_an_answer_bounds_the_offset() -> None:
    # The host's clock is 10 s ahead; its answer took 0.4 s of the 1 s that the question took.
    found = _clock.bounds(100.0, 110.3, 110.7, 101.0)
    assert found.least == pytest.approx(9.7)
    assert found.most == pytest.approx(10.3)
    assert found.beyond(0.5) and not found.beyond(9.8)
    assert str(found) == "+10.000 s (within 0.300 s)"


def test_several_answers_narrow_it() -> None:
    assert _clock.narrowed([]) is None
    assert _clock.narrowed([Bounds(-1, 0.5), Bounds(-0.2, 2)]) == Bounds(-0.2, 0.5)
    assert _clock.narrowed([Bounds(0, 1), Bounds(2, 3)]) is None


@pytest.mark.parametrize(
    ("found", "off"), [(Bounds(-0.4, 0.9), False), (Bounds(0.6, 1), True), (Bounds(-9, -2), True)]
)
def test_a_fault_needs_certainty(found: Bounds, off: bool) -> None:
    assert (_clock.fault(found, 0.5, kept=True) is not None) == off


def test_the_fault_says_what_to_do() -> None:
    assert _clock.fault(Bounds(2.0, 2.5), 0.5, kept=False) == (
        "clock: wanted at most 0.5 s (max_clock_offset) between this host and the controller, found +2.250 s "
        "(within 0.250 s), and no time service keeps it right; set it: systemctl enable --now chrony (or "
        "systemd-timesyncd)"
    )


def test_the_kernel_says_something() -> None:
    found = _clock.kernel()
    assert found is None or found.most_error_ms >= 0


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            (
                "Id=chrony.service\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\n\n"
                "Id=systemd-timesyncd.service\nLoadState=loaded\nActiveState=inactive\nUnitFileState=disabled\n"
            ),
            _clock.Service("chrony.service", active=True, enabled=True),
        ),
        (
            (
                "Id=ntpd.service\nLoadState=not-found\nActiveState=inactive\nUnitFileState=\n\n"
                "Id=systemd-timesyncd.service\nLoadState=loaded\nActiveState=inactive\nUnitFileState=disabled\n"
            ),
            _clock.Service("systemd-timesyncd.service", active=False, enabled=False),
        ),
        ("Id=ntpd.service\nLoadState=masked\nActiveState=inactive\nUnitFileState=masked\n", None),
    ],
)
def test_the_time_service_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, expected: _clock.Service | None
) -> None:
    """Debian's chronyd.service is another name of chrony.service, under which systemd answers."""
    monkeypatch.setattr(_clock._systemctl, "SYSTEMCTL", program(tmp_path / "systemctl", f"print({said!r})\n"))
    monkeypatch.setattr(_clock._systemctl, "booted", lambda: True)
    monkeypatch.setattr(_clock, "contained", lambda: False)
    assert _clock._service() == expected
    monkeypatch.setattr(_clock, "contained", lambda: True)
    assert _clock._service() is None


class Task:
    def __init__(self, **args: object) -> None:
        self.args = {"host": "h", "max_clock_offset": "0.5", **args}


@pytest.mark.parametrize("choice", ["refuse", "warn"])
def test_the_controller_judges_the_clock(choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[str] = []
    monkeypatch.setattr(grey_preflight.Display, "warning", lambda _self, text: warned.append(text))
    action = grey_preflight.ActionModule.__new__(grey_preflight.ActionModule)
    action._task = Task(clock=choice)
    for found, count in ((Bounds(-9.0, -2.0), 1), (Bounds(-0.1, 0.1), 0), (None, 0)):
        result: dict[str, Any] = {"faults": []}
        warned.clear()
        action._judge(result, {"synchronised": True}, found)
        said = result["faults"] if choice == "refuse" else warned
        assert [each.startswith("h: clock: wanted at most 0.5 s") for each in said] == [True] * count
        assert len(result["faults"]) + len(warned) == count
