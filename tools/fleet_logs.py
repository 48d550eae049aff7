# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collects what every host of a test fleet can tell about a failed run, in a folder per host."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

LIMIT_SECONDS = 60.0
# What is asked on each host, and the file that the answer goes to.
QUESTIONS = {
    "journal.txt": "journalctl --no-pager --output short-precise",
    "units.txt": "systemctl --no-pager --all list-units; systemctl --no-pager status 'grey*' 'greyd*'",
    "failed.txt": "systemctl --no-pager --failed; systemctl --no-pager status --state=failed",
    "unit-files.txt": "tail -n +1 /etc/systemd/system/grey*.service",
    "processes.txt": "ps -eo pid,ppid,user,lstart,rss,args --forest",
    "network.txt": "ip -details address; ip route; ss -tulpn; nft list ruleset; cat /etc/hosts",
    "disk.txt": "df -h; ls -laR /etc/grey /var/lib/grey /opt/grey/releases 2>&1 | head -n 2000",
    "clock.txt": "date --iso-8601=ns; chronyc tracking",
    # Configuration without keys: no private key leaves a host, not for its tests either.
    "config.txt": "find /etc/grey -type f ! -name '*key*' -exec tail -n +1 {} +",
}


def collect(containers: list[str], target: Path) -> dict[str, Any]:
    """Ask all hosts, and Docker about them; return where the answers are. A dead host stops nothing."""
    if not containers:
        return {"changed": [], "logs": str(target)}
    shutil.rmtree(target, ignore_errors=True)
    with ThreadPoolExecutor(max_workers=len(containers)) as pool:
        list(pool.map(lambda name: one_host(name, target / name.split("-", 2)[2]), containers))
    return {"changed": [], "logs": str(target)}


def one_host(container: str, folder: Path) -> None:
    """Write the answers of one host."""
    folder.mkdir(parents=True)
    lines = ["rm -rf /tmp/grey-logs", "mkdir /tmp/grey-logs", "cd /tmp/grey-logs"]
    lines += [f"{{ {words}; }} >{name} 2>&1" for name, words in QUESTIONS.items()]
    lines += ["[ ! -d /var/log/grey ] || cp -r /var/log/grey log", "tar -cf - ."]
    with (folder / "answers.tar").open("wb") as archive:
        run(["docker", "exec", container, "sh", "-c", "\n".join(lines)], archive)
    with (folder / "collecting.txt").open("wb") as said:
        run(["tar", "-xf", str(folder / "answers.tar"), "-C", str(folder), "--no-same-owner"], said)
    (folder / "answers.tar").unlink()
    for name, words in {"docker.json": ["inspect", container], "console.txt": ["logs", container]}.items():
        with (folder / name).open("wb") as file:
            run(["docker", *words], file)


def run(command: list[str], output: BinaryIO) -> None:
    """Run a command with its output in a file; one that hangs is left behind."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.DEVNULL,
            timeout=LIMIT_SECONDS,
        )  # fmt: skip
