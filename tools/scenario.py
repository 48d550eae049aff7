#!/usr/bin/env python3
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs Molecule's scenarios on the test fleet, one by one: ``scenario.py all|NAME... [--do COMMAND]``.

COMMAND is Molecule's, ``test`` by default: create, converge, verify, destroy, ... Docker and the image
are brought first. A scenario whose inventory is a link to another's has the same hosts: run together, they
are made and deployed to once. A failed run leaves the logs of every host in .cache/fleet/FLEET/logs.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import fleet
import fleet_logs
import get_docker
import image
from console import CACHE, ROOT, Failed, exclusive, report, say, seconds

SCENARIOS = ROOT / "extensions" / "molecule"
BIN = Path(sys.prefix) / "bin"
NO_DEFAULT = (
    "default/molecule.yml' glob failed"  # said as if it were critical; it only means that none has this name
)


def main(arguments: list[str]) -> int:
    """Run what is named; 0 when all passed, 1 when not, 2 when the user has to do something first."""
    known = sorted(path.parent.name for path in SCENARIOS.glob("*/molecule.yml"))
    parser = argparse.ArgumentParser(prog="scenario.py", description=f"scenarios: {', '.join(known)}")
    parser.add_argument("names", nargs="+", choices=[*known, "all"], metavar="SCENARIO")
    parser.add_argument("--do", default="test", metavar="COMMAND", help="Molecule's command (test)")
    wanted = parser.parse_args(arguments)
    names = known if "all" in wanted.names else wanted.names
    started = time.monotonic()
    counts: Counter[str] = Counter()
    try:
        say(f"docker: {get_docker.ensure()}")
        say(f"image: {image.ensure()}")
        for home, sharing in fleets(names).items():
            counts += run_on(home, sharing, wanted.do)
    except Failed as failure:
        report("scenario", failure)
        counts["failed"] += 1
    except KeyboardInterrupt:
        print("\nscenario: interrupted; the fleet is removed", file=sys.stderr)
        return 130
    say(f"molecule: {counts['passed']} passed, {counts['failed']} failed ({seconds(started)})")
    return 1 if counts["failed"] else 0


def fleet_of(name: str) -> str:
    """Return whose hosts a scenario has: its own, or those of the one that its inventory is a link to."""
    return (SCENARIOS / name / "inventory").resolve().parent.name


def fleets(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the scenarios of each fleet, first the one that the hosts are named after."""
    found: dict[str, list[str]] = {}
    for name in sorted(dict.fromkeys(names), key=lambda name: name != fleet_of(name)):
        found.setdefault(fleet_of(name), []).append(name)
    return found


def run_on(home: str, names: Sequence[str], command: str) -> Counter[str]:
    """Run the scenarios of one fleet, whole or a part of them; whole ones leave nothing behind but logs."""
    folder = fleet.HOME / home
    with exclusive(fleet.HOME / f"{home}.lock", f"the fleet {home}"):
        fleet.remove_leftovers()
        if command == "test":
            fleet.down(home)
            shutil.rmtree(folder, ignore_errors=True)
        counts: Counter[str] = Counter()
        try:
            for name, words in steps(names, command):
                code, counted = run_one(name, home, words)
                counts += counted
                if code != 0:
                    break
            if code != 0 and (standing := fleet.containers(home)):
                fleet_logs.collect(standing, folder / "logs")
            if code != 0 and command == "test":
                fleet.down(home)
        except BaseException:
            fleet.down(home)
            raise
    if code != 0 and (folder / "logs").is_dir():
        say(f"{home}: the logs of every host are in {folder / 'logs'}")
    return counts


def steps(names: Sequence[str], command: str) -> list[tuple[str, list[str]]]:
    """Return what Molecule does, scenario by scenario: several are tested on what the first one deployed."""
    first, *others = names
    if command != "test" or not others:
        return [(name, [command]) for name in names]
    tested = [(first, ["test", "--destroy", "never"]), *((name, ["verify"]) for name in others)]
    return [*tested, (first, ["destroy"])]


def run_one(name: str, home: str, words: Sequence[str]) -> tuple[int, Counter[str]]:
    """Run one scenario or a part of it; return Molecule's exit code and what passed and failed."""
    started = time.monotonic()
    command, *options = words
    sockets = tempfile.mkdtemp(prefix="gf")  # short: the paths of unix sockets are limited
    try:
        code, counts = run_molecule([command, "--scenario-name", name, *options], environment(home, sockets))
    finally:
        shutil.rmtree(sockets, ignore_errors=True)
    if code != 0 and not counts["failed"]:
        counts["failed"] = 1
    say(f"{name}: molecule {command} ended with exit code {code} after {seconds(started)}")
    return code, counts


def environment(home: str, sockets: str) -> dict[str, str]:
    """Return the environment of Molecule; nothing is written to the user's home."""
    return {
        **os.environ,
        "PATH": f"{BIN}:{os.environ.get('PATH', os.defpath)}",
        "MOLECULE_EPHEMERAL_DIRECTORY": str(fleet.HOME / home / "molecule"),
        "GREY_FLEET": home,
        "MOLECULE_PROJECT_DIRECTORY": str(ROOT),
        "ANSIBLE_HOME": str(CACHE / "ansible"),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": sockets,
        "PYTHONUNBUFFERED": "1",
    }


def run_molecule(arguments: list[str], variables: dict[str, str]) -> tuple[int, Counter[str]]:
    """Run Molecule and show its output as it comes; count its steps and the tests that pytest ran in them."""
    counts: Counter[str] = Counter()
    process = subprocess.Popen(
        [str(BIN / "molecule"), *arguments], cwd=ROOT, env=variables, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    assert process.stdout is not None
    with process:
        for line in process.stdout:
            if NO_DEFAULT in line:
                continue
            print(line, end="", flush=True)
            counts += count(line)
    return process.returncode, counts


def count(line: str) -> Counter[str]:
    """Read a closing line of pytest, or Molecule's recap of a scenario's steps."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", line)
    if recap := re.search(r"actions=\d+\s+successful=(\d+)\b.*\bfailed=(\d+)", plain):
        # A step that failed by its tests is counted as those.
        return Counter(passed=int(recap[1]))
    if re.search(r"\bin \d[\d.]*s\b", plain):
        found = re.findall(r"(\d+) (passed|failed|errors?)\b", plain)
        return sum((Counter({"passed" if w == "passed" else "failed": int(n)}) for n, w in found), Counter())
    return Counter()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
