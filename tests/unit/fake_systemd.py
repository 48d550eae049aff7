# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A systemctl that keeps its state in a folder and really starts processes.

It knows what the module uses: show, daemon-reload, enable, restart, stop, reset-failed. Units run as they
were when they were loaded, not as they are on the disk. What dies is started again a moment later, when
somebody looks.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESTART_SECONDS = 0.2
FRAGMENTS = ("control", "etc")


class Fake:
    """The state of all units below a folder: ``etc`` holds unit files, ``control`` what overrides them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.file = root / "state.json"
        self.state: dict[str, Any] = {"loaded": {}, "runs": {}}
        with contextlib.suppress(FileNotFoundError):
            self.state = json.loads(self.file.read_text())

    def save(self) -> None:
        self.file.write_text(json.dumps(self.state))

    def on_disk(self, unit: str) -> dict[str, Any] | None:
        places = [self.root / place / unit for place in FRAGMENTS]
        path = next((place for place in places if place.is_symlink() or place.exists()), None)
        if path is None:
            return None
        drop_ins = [
            str(file) for place in FRAGMENTS for file in (self.root / place / f"{unit}.d").glob("*.conf")
        ]
        masked = os.path.realpath(path) == "/dev/null"
        text = "".join(Path(file).read_text() for file in [path, *drop_ins])
        return {"text": text, "drop_ins": drop_ins, "masked": masked}

    def load(self, unit: str) -> dict[str, Any] | None:
        loaded: dict[str, Any] | None = self.state["loaded"].get(unit)
        if loaded is None:
            loaded = self.on_disk(unit)
            if loaded is not None:
                self.state["loaded"][unit] = loaded
        return loaded

    def reload(self) -> None:
        for unit in list(self.state["loaded"]):
            found = self.on_disk(unit)
            if found is None:
                del self.state["loaded"][unit]
            else:
                self.state["loaded"][unit] = found

    def start(self, unit: str) -> None:
        loaded = self.load(unit)
        if loaded is None or loaded["masked"]:
            sys.exit(f"Failed to start {unit}: Unit {unit} is {'not found' if loaded is None else 'masked'}.")
        lines = loaded["text"].splitlines()
        said = [line.partition("=") for line in lines if not line.startswith("#")]
        command = [value for key, _equals, value in said if key == "ExecStart"][-1]
        pairs = [
            shlex.split(value)[0].replace("%%", "%") for key, _equals, value in said if key == "Environment"
        ]
        words = [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(command)]
        pid_file = self.root / f"{unit}.pid"
        pid_file.unlink(missing_ok=True)
        nowhere = subprocess.DEVNULL
        subprocess.Popen(
            [sys.executable, __file__, str(self.root), "watch", unit, json.dumps(words), json.dumps(pairs)],
            stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True,
        )  # fmt: skip
        while not pid_file.exists():
            time.sleep(0.005)
        self.state["runs"][unit] = {
            "pid": int(pid_file.read_text()),
            "started": time.monotonic(),
            "died": None,
        }

    def stop(self, unit: str) -> None:
        run = self.state["runs"].pop(unit, None)
        if run:
            for number in (signal.SIGTERM, signal.SIGCONT):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(run["pid"], number)
            while alive(run["pid"]):
                time.sleep(0.005)

    def restart(self, unit: str) -> None:
        self.stop(unit)
        self.start(unit)

    def forget(self, unit: str) -> None:
        self.state["runs"].pop(unit, None)

    def show(self, unit: str) -> str:
        loaded, run = self.load(unit), self.state["runs"].get(unit)
        if run and not run.get("failed") and not alive(run["pid"]):
            run["died"] = run["died"] or time.monotonic()
            if time.monotonic() - run["died"] > RESTART_SECONDS:
                self.start(unit)
                run = self.state["runs"][unit]
        active, sub, pid = "inactive", "dead", 0
        if run and run.get("failed"):
            active, sub = "failed", "failed"
        elif run and run["died"]:
            active, sub = "activating", "auto-restart"
        elif run:
            active, sub, pid = "active", "running", run["pid"]
        load = "not-found" if loaded is None else "masked" if loaded["masked"] else "loaded"
        status = self.root / f"{unit}.status"
        said = {
            "Id": unit,
            "LoadState": load,
            "ActiveState": active,
            "SubState": sub,
            "MainPID": pid,
            "ExecMainStartTimestampMonotonic": int(run["started"] * 1e6) if run else 0,
            "ExecMainStatus": status.read_text() if status.exists() else 0,
            "NeedDaemonReload": "yes" if loaded is not None and self.on_disk(unit) != loaded else "no",
            "DropInPaths": " ".join(loaded["drop_ins"]) if loaded else "",
        }
        return "".join(f"{key}={value}\n" for key, value in said.items())

    def enable(self, unit: str) -> None:
        folder = self.root / "etc" / "multi-user.target.wants"
        folder.mkdir(exist_ok=True)
        (folder / unit).symlink_to(self.root / "etc" / unit)


def alive(pid: int) -> bool:
    """Whether a process is there and not only waiting to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def watch(root: Path, unit: str, words: list[str], pairs: list[str]) -> None:
    """Start a unit's process, tell its number, and in the end its status."""
    environment = dict(pair.split("=", 1) for pair in pairs)
    with (root / f"{unit}.log").open("ab") as log:
        child = subprocess.Popen(
            words,
            env={"PATH": os.environ["PATH"], **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    beside = root / f"{unit}.pid.new"
    beside.write_text(str(child.pid))
    beside.replace(root / f"{unit}.pid")
    (root / f"{unit}.status").write_text(str(child.wait()))


def journalctl(root: Path, arguments: list[str]) -> None:
    """Print what a unit's processes printed."""
    for unit in (word.removeprefix("--unit=") for word in arguments if word.startswith("--unit=")):
        print((root / f"{unit}.log").read_text())


def systemctl(root: Path, arguments: list[str]) -> None:
    """Do what systemctl would."""
    verb, *units = [word for word in arguments if not word.startswith("--")]
    fake = Fake(root)
    if verb == "show":
        print("\n".join(fake.show(unit) for unit in units))
    else:
        with (root / "calls").open("a") as calls:
            calls.write(f"{verb} {' '.join(units)}\n")
        if verb == "daemon-reload":
            fake.reload()
        act = {
            "enable": fake.enable,
            "reset-failed": fake.forget,
            "stop": fake.stop,
            "restart": fake.restart,
        }
        for unit in units:
            act[verb](unit)
    fake.save()


def main(root: Path, program: str, arguments: list[str]) -> None:
    """Be systemctl or journalctl, or what looks after a unit's process."""
    if program == "watch":
        watch(root, arguments[0], json.loads(arguments[1]), json.loads(arguments[2]))
    else:
        {"systemctl": systemctl, "journalctl": journalctl}[program](root, arguments)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
