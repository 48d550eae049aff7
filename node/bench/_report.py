# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmarks print, and how it gets between the markers of docs/performance.md."""

from __future__ import annotations

import datetime
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from _turns import Outcome

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"


class Table(NamedTuple):
    """Columns and rows of text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """Return it in Markdown."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


class Goal(NamedTuple):
    """What was wanted (at least; ``most``: at most) and what was found."""

    what: str
    wanted: float
    found: float
    unit: str = "times"
    most: bool = False

    @property
    def held(self) -> bool:
        """Whether it was reached."""
        return self.found <= self.wanted if self.most else self.found >= self.wanted

    def row(self) -> list[str]:
        """Return it as a row: what, goal, found, held."""
        bound = "under" if self.most else "at least"
        return [
            self.what,
            f"{bound} {self.wanted:g} {self.unit}",
            f"{self.found:.3g} {self.unit}",
            "yes" if self.held else "**no**",
        ]


class Section(NamedTuple):
    """The tables of one subject; ``busy`` says what else the machine did."""

    name: str
    tables: Sequence[Table]
    busy: str
    goals: Sequence[Goal] = ()

    def text(self) -> str:
        """Return it in Markdown."""
        tables = [*self.tables, goals_table(self.goals)] if self.goals else self.tables
        return "\n\n".join([*(table.text() for table in tables), f"({self.busy}.)"])


def goals_table(goals: Sequence[Goal]) -> Table:
    """Return goals in one table."""
    return Table(["goal", "wanted", "found", "held"], [goal.row() for goal in goals])


def latency_table(title: str, cells: Sequence[tuple[int, Sequence[Outcome]]]) -> Table:
    """Return a row per number of connections and contender."""
    columns = [title, "connections", "per second", "slowest to fastest round", "p50 ms", "p99 ms", "p99.9 ms"]
    columns += ["client", "greyd", "engine"]
    rows = [
        [
            each.name,
            str(clients),
            f"{each.per_second:,.0f}",
            f"{each.low:,.0f} to {each.high:,.0f}",
            f"{each.p50:.2f}",
            f"{each.p99:.2f}",
            f"{each.p999:.2f}",
            *(f"{spent:.0f}" if spent >= 1 else "" for spent in (each.client, each.greyd, each.engine)),
        ]
        for clients, outcomes in cells
        for each in outcomes
    ]
    return Table(columns, rows)


def times(one: Outcome, other: Outcome) -> float:
    """Return how many times faster one is than the other."""
    return one.per_second / other.per_second


def machine() -> str:
    """Say when and where the figures were taken."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    memory = psutil.virtual_memory().total / 2**30
    etcd = _etcd_version()
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    facts = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processors": f"{os.cpu_count()}, {model[1] if model else platform.machine()}",
        "memory": f"{memory:.0f} GiB",
        "system": f"{system}, kernel {platform.release()}",
        "Python": platform.python_version(),
        "etcd": etcd,
        "load before (1, 5, 15 minutes)": ", ".join(f"{load:.1f}" for load in os.getloadavg()),
    }
    return Table(["machine", ""], [list(fact) for fact in facts.items()]).text()


def _etcd_version() -> str:
    etcd = shutil.which("etcd")
    if etcd is None:
        return "none"
    said = subprocess.run([etcd, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    found = re.search(r"etcd Version: (\S+)", said)
    return found[1] if found else "unknown"


def write(parts: Mapping[str, str], page: Path = PAGE) -> None:
    """Put each text between the markers ``<!-- bench: NAME -->`` and ``<!-- end -->`` of the page.

    Raises KeyError for a name without markers; then nothing is written.
    """
    text = page.read_text(encoding="utf-8")
    for name, part in parts.items():
        begin, end = f"<!-- bench: {name} -->\n", "<!-- end -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise KeyError(f"{page} has no place for {name}: write {begin.strip()} and {end.strip()} there")
        text = f"{before}{begin}\n{part}\n\n{end}{after}"
    page.write_text(text, encoding="utf-8")
