# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody who has ansible-core, the installed collection, no rights and no network."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import subprocess
import time
from pathlib import Path

from machine import wait_for
from network import Network

LIMIT_SECONDS = 1200


class User:
    """A home, an environment of ansible-core, and commands that run in them."""

    def __init__(
        self, home: Path, ansible: Path, network: Network, account: pwd.struct_passwd | None
    ) -> None:
        self.home = home
        self.project = home / "p"
        self._account = account
        self._network = network
        self.variables = {
            "PATH": f"{ansible / 'bin'}:/usr/bin:/bin",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "ANSIBLE_REMOTE_TEMP": str(home / ".ansible" / "tmp"),  # the account may have no home of its own
            "GREY_DEMO_NET": network.number,
            **network.environment,
        }
        home.mkdir()
        self._own(home)

    def give(self, path: Path, text: str) -> None:
        """Put a file there, as the user's own."""
        for folder in reversed(path.relative_to(self.home).parents):
            if not (self.home / folder).exists():
                (self.home / folder).mkdir()
                self._own(self.home / folder)
        path.write_text(text, encoding="utf-8")
        self._own(path)

    def run(self, *command: str, code: int | None = 0, folder: Path | None = None, **variables: str) -> str:
        """Run a command without a network; return all that it printed."""
        started = time.monotonic()
        done = subprocess.run(
            self._network.command(list(command), self._account), cwd=folder or self.home,
            env={**self.variables, **variables}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=LIMIT_SECONDS, check=False,
        )  # fmt: skip
        print(f"$ {' '.join(command)}  ({time.monotonic() - started:.1f} s)\n{done.stdout}")
        if code is not None:
            assert done.returncode == code, f"{command} ended with {done.returncode}:\n{done.stdout[-6000:]}"
        return done.stdout

    def play(self, playbook: str, *arguments: str, code: int = 0) -> str:
        """Run one of the collection's playbooks in the example project."""
        return self.run(
            "ansible-playbook", f"grey.distributed.{playbook}", *arguments, code=code, folder=self.project
        )

    def processes(self) -> list[int]:
        """Return the processes of deployments below the user's home."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if f"\0GREY_INSTANCE={self.home}/".encode() in b"\0" + (entry / "environ").read_bytes():
                        found.append(int(entry.name))
        return found

    def end(self) -> None:
        """Kill whatever a failed test left behind."""

        def none_left() -> bool:
            found = self.processes()
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not found

        wait_for(none_left, "what is left of a deployment to be gone")

    def _own(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.pw_uid, self._account.pw_gid)


def changed(output: str) -> int:
    """Return how many changes all hosts of a run had."""
    counts = re.findall(r"\bchanged=(\d+)", output)
    assert counts, output[-3000:]
    return sum(map(int, counts))
