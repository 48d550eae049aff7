# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A network with loopback only; where none can be made, an index and proxies that nothing answers at."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from typing import Self

NOBODY = "http://127.0.0.1:9"  # the port 'discard': nobody listens
HOLD = """\
import fcntl, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    fcntl.ioctl(probe, 0x8914, struct.pack("16sh22x", b"lo", 0x1))  # SIOCSIFFLAGS, IFF_UP
print("up", flush=True)
sys.stdin.read()
"""


class Network:
    """Holds a network namespace open, so that one command's daemons are there for the next command."""

    def __init__(self) -> None:
        self._holder: subprocess.Popen[str] | None = None
        self.how = "the index and the proxies are unreachable (no namespace could be made)"

    def __enter__(self) -> Self:
        root = os.geteuid() == 0
        if not (shutil.which("unshare") and shutil.which("nsenter") and shutil.which("setpriv")):
            return self
        command = [
            "unshare",
            *([] if root else ["--user", "--map-root-user"]),
            "--net",
            sys.executable,
            "-c",
            HOLD,
        ]
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert holder.stdout is not None
        if holder.stdout.readline() == "up\n":
            self._holder = holder
            self.how = "a namespace with loopback only"
        else:
            holder.wait()
        return self

    def __exit__(self, *_: object) -> None:
        if self._holder is not None:
            self._holder.communicate()

    def command(self, words: list[str], user: pwd.struct_passwd | None) -> list[str]:
        """Return the command that runs another one inside, as an account."""
        account = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"] if user else []
        drop = ["setpriv", *account] if account else []
        if self._holder is None:
            return [*drop, *words]
        target = [f"--target={self._holder.pid}", "--net"]
        own = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return ["nsenter", *target, *own, "--", *drop, *words]

    @property
    def number(self) -> str:
        """The demo's loopback network: the usual one, or without a namespace one that no other lane takes."""
        return "127.77" if self._holder is not None else "127.96"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that keep even a process outside of the namespace from fetching anything."""
        names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
        return {"PIP_INDEX_URL": NOBODY, "PIP_CONFIG_FILE": "/dev/null", **dict.fromkeys(names, NOBODY)}
