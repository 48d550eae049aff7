# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""All figures of docs/performance.md, in at most twelve minutes; ``--write`` puts them into the page.

Everything on loopback with processes of its own, bounded in time. Run it with: make bench BENCH=--write
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING

import _report
import demo
import engines
import fleets
import lag
import memory
import profiled
import store_alone
import uvloop
import workers
from _turns import Pace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from _report import Section

QUICK = Pace(seconds=0.3, rounds=1, patience_seconds=0.0)


def sections() -> dict[str, Callable[[Pace], Awaitable[Section]]]:
    """Return every section by the name that its markers in the page have."""
    return {
        **{engine: lambda pace, engine=engine: engines.measure(engine, pace) for engine in engines.ENGINES},
        "memory": memory.measure,
        "workers": workers.measure,
        "profile": profiled.measure,
        "lag": lag.measure,
        "store": store_alone.measure,
        "demo": demo.measure,
        "fleet": fleets.measure,
    }


APART = {"fleet"}  # needs Docker and root, and half an hour: only when it is named


async def main() -> int:
    """Measure, print, and write if that is asked for; 1 when a section failed."""
    known = sections()
    usual = [name for name in known if name not in APART]
    parser = argparse.ArgumentParser(prog="lanes.py bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", choices=known, default=usual, metavar="SECTION", help=", ".join(known)
    )
    parser.add_argument("--profile", action="store_true", help="where greyd's time goes: --only profile")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    parser.add_argument("--quick", action="store_true", help="try everything out; the figures mean nothing")
    options = parser.parse_args()
    names = ["profile"] if options.profile else options.only
    pace = QUICK if options.quick else Pace()
    if (task := asyncio.current_task()) is not None:
        # What was started is ended, too.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    machine = _report.machine()
    _say(machine)
    if options.write and set(names) >= set(usual):
        _report.write({"machine": machine})
    found: list[Section] = []
    for name in names:
        started = time.monotonic()
        try:
            section = await known[name](pace)
        except Exception:  # noqa: BLE001 - the others are measured all the same
            _say(f"\n== {name} FAILED\n{traceback.format_exc()}")
            continue
        found.append(section)
        if options.write:
            _report.write({section.name: section.text()})
        _say(f"\n== {name} ({time.monotonic() - started:.0f} s)\n\n{section.text()}")
    if goals := [goal for section in found for goal in section.goals]:
        _say(f"\n== all goals\n\n{_report.goals_table(goals).text()}")
    return 0 if len(found) == len(names) else 1


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
