# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs lanes of tests side by side, each with its output in .cache/lanes, and sums them up in one line.

``lanes.py all|unit`` or ``lanes.py LANE...``; ``lanes.py bench [--write]`` takes the figures of
docs/performance.md instead.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from console import CACHE, ROOT, say, seconds
from utf8 import use_utf8

LOGS = CACHE / "lanes"
WORKERS = 2
# For the fast loop: simulated schedules (without it 200), made-up requests (400), part of the models' runs.
FEW = {"GREY_SCHEDULES": "40", "GREY_FUZZ_EXAMPLES": "100", "GREY_MODEL_PERCENT": "25"}
ALIVE_SECONDS = 30.0
GRACE_SECONDS = 20.0
PYTEST = [f"{sys.prefix}/bin/pytest", "-q", "-rs", "-p", "no:cacheprovider", "--durations=5"]
GROUPS = {
    # Two at a time: beside the fleet, which loads the machine most, run those that mind no load.
    "all": (
        "fleet",
        "install",
        "sanity",
        "lint",
        "collection",
        "tools",
        "processes",
        "node",
        "demo",
        "scale",
    ),
    "unit": ("unit-node", "unit-collection", "tools"),
}


@dataclass
class Lane:
    """One command, where it runs, and what came out of it."""

    name: str
    command: list[str]
    folder: Path = ROOT
    variables: Mapping[str, str] = field(default_factory=dict)
    limit_seconds: float = 1500.0
    code: int = 0
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return LOGS / f"{self.name}.log"

    @property
    def failed(self) -> int:
        """How many tests failed; a lane that fails without saying so, or that ran nothing, counts as one."""
        counted = self.counts.get("failed", 0) + self.counts.get("error", 0)
        return counted or int(self.code != 0 or not self.counts.get("passed", 0))


def lanes() -> dict[str, Lane]:
    """Return every lane by name."""
    known = [
        # Hosts with systemd in Docker, which root has installed and started where it is missing; the longest.
        Lane("fleet", [sys.executable, "tools/scenario.py", "federation"], limit_seconds=2400.0),
        Lane("demo", [*PYTEST, "tests/demo"]),
        # A cluster of several hosts as processes of this machine.
        Lane("scale", [*PYTEST, "tests/scale"]),
        # The built collection, elsewhere: offline, with ansible-core alone, with every ansible-core it
        # supports.
        Lane("install", [*PYTEST, "tests/install"], limit_seconds=2400.0),
        Lane("sanity", [sys.executable, "tools/sanity.py"]),
        # Most of their time is waiting: two workers, the tests of one file in order.
        Lane("node", [*PYTEST, "-n", "2", "--dist", "loadfile", "-m", "not processes"], ROOT / "node"),
        Lane("processes", [*PYTEST, "-n", "2", "--dist", "loadfile", "-m", "processes"], ROOT / "node"),
        Lane("lint", [sys.executable, "tools/lint.py"]),
        Lane("collection", [*PYTEST, "tests/unit"]),
        Lane("tools", [*PYTEST, "tests/tools"]),
        # The fast loop: what they leave out is in the lanes above.
        Lane(
            "unit-node",
            [*PYTEST, "-n", "2", "--dist", "loadfile", "-m", "not processes and not mutants"],
            ROOT / "node",
            FEW,
        ),
        Lane("unit-collection", [*PYTEST, "-m", "not slow", "tests/unit"]),
        # Part of the lanes above too; alone, it says in its output which line of a checker caught each fault.
        Lane("mutants", [*PYTEST, "-m", "mutants", "-rsP", "--show-capture=stdout"], ROOT / "node"),
    ]
    return {lane.name: lane for lane in known}


def use_etcd(chosen: Path = CACHE / "etcd" / "path") -> None:
    """Let every lane find the etcd that get_etcd.py chose: it may be in no folder of PATH."""
    if chosen.is_file():
        folder = Path(chosen.read_text(encoding="utf-8").strip()).parent
        os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        # What restores snapshots; the machine's own goes before it.
        if (restorer := chosen.parent / "restorer").is_dir():
            os.environ["PATH"] += f"{os.pathsep}{restorer}"


def main(arguments: list[str]) -> int:
    """Run the lanes that are named; 0 when every test of every lane passed."""
    # A shell's background job ignores Ctrl-C, and so would the lanes, which are ended by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if arguments[:1] == ["bench"]:
        return bench(arguments[1:])
    known = lanes()
    names = [name for argument in arguments for name in GROUPS.get(argument, (argument,))]
    if not names or set(names) - set(known):
        print(f"usage: lanes.py {'|'.join(GROUPS)}|bench|LANE...; lanes: {', '.join(known)}", file=sys.stderr)
        return 2
    started = time.monotonic()
    LOGS.mkdir(parents=True, exist_ok=True)
    chosen = [known[name] for name in dict.fromkeys(names)]
    runner = Runner()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        try:
            for future in as_completed([pool.submit(runner.run, lane) for lane in chosen]):
                show(future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            runner.end_all()
            raise
    return close(chosen, started)


class Runner:
    """Starts lanes and can end them all."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    def run(self, lane: Lane) -> Lane:
        """Run one lane to its end, with a line now and then that says it is alive."""
        started = time.monotonic()
        say(f"start   {lane.name} (output: {lane.log.relative_to(ROOT)})")
        environment = {**os.environ, **lane.variables, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
        with lane.log.open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                lane.command, cwd=lane.folder, env=environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
            with self._lock:
                self._running.add(process)
            while True:
                try:
                    lane.code = process.wait(ALIVE_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    say(f"running {lane.name} ({seconds(started)}) {last_line(lane.log)}")
                    if time.monotonic() - started > lane.limit_seconds:
                        end(process)
                        log.write(f"\nended: not finished after {lane.limit_seconds:.0f} s\n")
            with self._lock:
                self._running.discard(process)
        lane.seconds = time.monotonic() - started
        lane.counts = count(lane.log.read_text(encoding="utf-8", errors="replace"))
        return lane

    def end_all(self) -> None:
        """End every lane that runs."""
        with self._lock:
            running = list(self._running)
        for process in running:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a lane with its children; SIGINT first, so that tests can clean up what they started."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number)
            process.wait(GRACE_SECONDS)


def last_line(log: Path) -> str:
    """Return the last line of a lane's output, shortened."""
    lines = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    return lines[-1].strip()[:90] if lines else ""


def count(output: str) -> dict[str, int]:
    """Read how many passed and failed from the closing line of pytest or of our own tools."""
    for line in reversed(output.splitlines()):
        found = re.findall(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed)\b", line)
        if found:
            return {"error" if word == "errors" else word: int(number) for number, word in found}
    return {}


def show(lane: Lane) -> None:
    """Say how a lane ended, with the end of its output when it failed."""
    counts = ", ".join(f"{number} {word}" for word, number in lane.counts.items()) or "nothing ran"
    say(f"{'FAILED ' if lane.failed else 'ok     '} {lane.name} in {lane.seconds:.0f} s: {counts}")
    if lane.failed:
        output = lane.log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
        say("\n".join(f"  {lane.name}| {line}" for line in output[-100:]))


def close(chosen: list[Lane], started: float) -> int:
    """Print one row per lane and the closing line that sums them."""
    say(f"\n{'lane':<12}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
    for lane in chosen:
        passed, skipped = lane.counts.get("passed", 0), lane.counts.get("skipped", 0)
        say(f"{lane.name:<12}{passed:>8}{lane.failed:>8}{skipped:>9}{lane.seconds:>9.0f}")
    failed = sum(lane.failed for lane in chosen)
    say(f"\nin {seconds(started)}")
    say(f"{sum(lane.counts.get('passed', 0) for lane in chosen)} passed, {failed} failed")
    return 1 if failed else 0


def bench(options: list[str]) -> int:
    """Measure what docs/performance.md shows; ``--write`` puts it there, ``--help`` tells the rest."""
    script = ROOT / "node" / "bench" / "bench.py"
    return subprocess.run([sys.executable, script, *options], cwd=ROOT / "node", check=False).returncode


if __name__ == "__main__":
    use_etcd()
    use_utf8()
    sys.exit(main(sys.argv[1:]))
