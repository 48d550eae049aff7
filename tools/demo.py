# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: ``demo.py up`` deploys inventories/local on this machine, ``status`` shows, ``clean`` removes it.

GREY_DEMO_ROOT names the folder it lives in (.demo), GREY_DEMO_NET the clusters' loopback network (127.77).
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from console import CACHE, ROOT, Failed, exclusive, report, require_plain_path, run, say, seconds, tail
from utf8 import use_utf8

DEMO = Path(os.environ.get("GREY_DEMO_ROOT") or ROOT / ".demo").resolve()
FEDERATION = "global-grey"
BIN = Path(sys.prefix) / "bin"
PLAYBOOK = [str(BIN / "ansible-playbook")]
MARKER = "GREY_INSTANCE"  # in the environment of every process that the deployment starts
GRACE_SECONDS = 10.0


def main(arguments: list[str]) -> int:
    """Do what is asked; 0 done, 1 failed, 2 wrong usage."""
    actions = {"up": up, "status": status, "clean": clean}
    if len(arguments) != 1 or arguments[0] not in actions:
        print(f"usage: demo.py {'|'.join(actions)}", file=sys.stderr)
        return 2
    use_utf8()
    try:
        with exclusive(CACHE / "demo.lock", "another make demo"):
            actions[arguments[0]]()
    except Failed as failure:
        report("demo", failure)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; run it again to go on from here", file=sys.stderr)
        return 130
    return 0


def up() -> None:
    """Deploy, or find that there is nothing to do; then show what stands and what to try."""
    require_plain_path(DEMO, "the demo's folder", "name another one: GREY_DEMO_ROOT=/other/folder make demo")
    started = time.monotonic()
    say(f"deploying inventories/local below {DEMO}")
    log = CACHE / "log" / "deploy.log"
    command = [*PLAYBOOK, "playbooks/deploy.yml", "-i", "inventories/local"]
    code, output = run("deploying", command, log, env=environment(), cwd=ROOT, detail=Phases())
    if code != 0:
        raise Failed(
            f"the deployment stopped after {seconds(started)}:\n{fault(output)}",
            "do what the message says, then run make demo again: it goes on from here.\n"
            f"the whole output is in {log}",
        )
    changes = sum(int(number) for number in re.findall(r"\bchanged=(\d+)", output))
    words = "everything was already as the federation file says" if changes == 0 else "deployed"
    say(f"{changes} {'change' if changes == 1 else 'changes'}: {words} ({seconds(started)})\n")
    table()
    say(
        "next:\n"
        f"  source {shown(DEMO / 'env')}                                       # puts grey-ctl on the path\n"
        "  grey-ctl kv put user:123 Ada                            # goes to the primary\n"
        "  grey-ctl kv get user:123 --cluster edge-chicago         # the copy at the edge\n"
        f"  grey-ctl federation status --federation {FEDERATION}\n"
        "  make demo                                               # again: changes nothing\n"
        "  make demo-clean                                         # stops it all and removes it"
    )


def status() -> None:
    """Show the status table of what is deployed."""
    if not (DEMO / "controller").is_dir():
        raise Failed(f"nothing is deployed below {DEMO}", "make demo")
    table()


def table() -> None:
    """Print the federation's status table."""
    command = [str(BIN / "grey-ctl"), "federation", "status", "--federation", FEDERATION]
    done = subprocess.run(command, env=environment(), check=False, timeout=60)
    if done.returncode != 0:
        raise Failed(
            f"grey-ctl federation status ended with exit code {done.returncode}",
            f"look into the logs below {DEMO}, or run make demo again: it brings back what is down",
        )


def clean() -> None:
    """Tear the deployment down by its playbook, then end and remove whatever is left."""
    there = DEMO.exists()
    if (DEMO / "controller").is_dir():
        log = CACHE / "log" / "teardown.log"
        command = [
            *PLAYBOOK,
            "playbooks/teardown.yml",
            "-i",
            "inventories/local",
            "-e",
            f"confirm={FEDERATION}",
        ]
        code, _ = run("tearing down", command, log, env=environment(), cwd=ROOT, detail=Phases())
        if code != 0:
            say(f"the playbook failed (its output is in {log}); ending and removing what is left")
    ended = end_processes()
    if DEMO.exists():
        if not (DEMO / "controller").is_dir() and any(DEMO.iterdir()):
            raise Failed(
                f"{DEMO} does not look like a demo: it holds no folder 'controller'",
                "look at it and remove it by hand",
            )
        shutil.rmtree(DEMO)
    if not there and not ended:
        say(f"nothing to clean: no {shown(DEMO)} and no process of it")
    else:
        leftovers = f", and {len(ended)} processes that were left over" if ended else ""
        say(f"stopped the demo and removed {shown(DEMO)}{leftovers}")


def end_processes() -> list[int]:
    """End what carries the mark of this demo, supervisors first, so that they bring nothing back."""
    ended: list[int] = []
    deadline = time.monotonic() + 3 * GRACE_SECONDS
    while found := dict(marked()):
        if time.monotonic() > deadline:
            raise Failed(f"processes do not end: {', '.join(map(str, found))}", "run make demo-clean again")
        supervisors = [pid for pid, name in found.items() if "supervisord" in name]
        chosen = supervisors or list(found)
        end(chosen)
        ended += chosen
    return ended


def marked() -> Iterator[tuple[int, str]]:
    """Yield number and command line of each process that was started below the demo's folder."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # gone meanwhile, or another user's
        for variable in variables:
            name, _, value = variable.partition(b"=")
            if (
                name.decode(errors="replace") == MARKER
                and line
                and Path(os.fsdecode(value)).is_relative_to(DEMO)
            ):
                yield int(entry.name), line


def end(pids: list[int]) -> None:
    """End processes: TERM (a stopped one is continued to hear it), then KILL for the rest."""
    handles = []
    for pid in pids:
        try:
            handles.append(os.pidfd_open(pid))
        except ProcessLookupError:
            continue
    for numbers in ((signal.SIGTERM, signal.SIGCONT), (signal.SIGKILL,)):
        deadline = time.monotonic() + GRACE_SECONDS
        for handle in handles:
            for number in numbers:
                try:
                    signal.pidfd_send_signal(handle, number)
                except ProcessLookupError:
                    break
        while handles and time.monotonic() < deadline:
            gone = select.select(handles, [], [], 0.5)[0]
            for handle in gone:
                os.close(handle)
                handles.remove(handle)
    for handle in handles:
        os.close(handle)


class Phases:
    """Prints the plays of a run as they begin, each once, and names the task at hand."""

    def __init__(self) -> None:
        self._shown: set[str] = set()

    def __call__(self, line: str) -> str | None:
        """Take one line of Ansible's output."""
        if match := re.match(r"PLAY \[(.+)\] \*+", line):
            if match[1] not in self._shown:  # a serial play begins once per host
                self._shown.add(match[1])
                print("\r\x1b[K" if sys.stdout.isatty() else "", end="")
                say(f"  {match[1]}")
            return match[1]
        if match := re.match(r"TASK \[(.+)\] \*+", line):
            return match[1]
        return None


def fault(output: str) -> str:
    """Return what Ansible says went wrong, once, and on which hosts."""
    errors: dict[str, None] = {}
    for block in re.findall(
        r"^(?:\[ERROR\]|ERROR!):? (.*?)(?=^Origin: |^fatal: |^$|\Z)", output, re.DOTALL | re.MULTILINE
    ):
        errors[re.sub(r"^Task failed: (?:Module failed: |Action failed: )?", "", block).strip()] = None
    task = re.findall(r"^TASK \[(.+)\]", output.partition("[ERROR]")[0], re.MULTILINE)
    hosts = sorted(set(re.findall(r"^fatal: \[([^\]]+)\]", output, re.MULTILINE)))
    if not errors:
        return tail(output)
    where = f"at {task[-1]!r}" if task and hosts else "before any task"
    return tail("\n".join([f"{where}{' on ' + ', '.join(hosts) if hosts else ''}:", *errors]), 60)


def environment() -> dict[str, str]:
    """Return the environment for Ansible and grey-ctl; nothing is written to the user's home."""
    return {
        **os.environ,
        "PATH": f"{BIN}:{os.environ.get('PATH', os.defpath)}",
        "GREY_DEMO_ROOT": str(DEMO),
        "GREY_CTL_CONFIG": str(DEMO / "controller" / "ctl.yaml"),
        "ANSIBLE_HOME": str(CACHE / "ansible"),
        "ANSIBLE_REMOTE_TEMP": str(CACHE / "ansible" / "tmp"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_FORCE_COLOR": "0",
        "PYTHONUNBUFFERED": "1",
    }


def shown(path: Path) -> str:
    """Return a path as short as it can be typed from the repository's root."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
