# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmarks have a place in docs/performance.md for each of their tables, and count right."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import the benchmarks as they import each other."""
    monkeypatch.syspath_prepend(str(BENCH))
    before = set(sys.modules)
    import _report
    import _turns
    import bench

    yield bench, _report, _turns
    for name in set(sys.modules) - before:
        if (file := getattr(sys.modules[name], "__file__", None)) and Path(file).parent == BENCH:
            del sys.modules[name]


def test_every_section_has_its_place_in_the_page(modules: Any, tmp_path: Path) -> None:
    bench, report, _ = modules
    page = tmp_path / "performance.md"
    page.write_text(report.PAGE.read_text())
    names = ["machine", *bench.sections()]
    report.write({name: f"figures of {name}" for name in names}, page)
    once = page.read_text()
    assert all(once.count(f"\n\nfigures of {name}\n\n<!-- end -->") == 1 for name in names)
    report.write({name: f"figures of {name}" for name in names}, page)
    assert page.read_text() == once


def test_a_page_without_the_place_is_left_alone(modules: Any, tmp_path: Path) -> None:
    _, report, _ = modules
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- bench: one -->\nold\n<!-- end -->\nb\n")
    with pytest.raises(KeyError, match="no place for two"):
        report.write({"one": "new", "two": "new"}, page)
    assert "old" in page.read_text()
    report.write({"one": "new"}, page)
    assert page.read_text() == "a\n<!-- bench: one -->\n\nnew\n\n<!-- end -->\nb\n"


@pytest.mark.parametrize(("found", "held"), [(0.99, "**no**"), (1.0, "yes")])
def test_a_missed_goal_is_said(modules: Any, found: float, held: str) -> None:
    _, report, _ = modules
    assert report.Goal("put/s", 1.0, found).row()[-1] == held
    assert report.Goal("lag", 1.0, 2 - found, "ms", most=True).row()[-1] == held


async def test_contenders_take_turns(modules: Any) -> None:
    _, _, turns = modules
    order: list[str] = []

    def waits(name: str, seconds: float) -> Any:
        async def call(_: int, __: int) -> None:
            order.append(name)
            await asyncio.sleep(seconds)

        return call

    contenders = [
        turns.Contender("quick", waits("quick", 0.001), greyd=[os.getpid()]),
        turns.Contender("slow", waits("slow", 0.02)),
    ]
    quick, slow = await turns.in_turns(contenders, 4, turns.Pace(0.2, 3, 0.0))
    assert (quick.name, slow.name) == ("quick", "slow")
    assert slow.per_second < quick.per_second
    assert slow.low <= slow.per_second <= slow.high
    assert 20 <= slow.p50 <= slow.p99 <= slow.p999
    assert slow.greyd == 0 and quick.client > 0
    changes = [name for name, before in zip(order[1:], order, strict=False) if name != before]
    # To warm up, there, back, and there again.
    assert changes == ["slow", "quick", "slow", "quick", "slow"]
