# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What supervisord reads: its own configuration and one file per program, with digests to compare by."""

from __future__ import annotations

import os
import pwd
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.grey.distributed.plugins.module_utils._files import File
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError
from ansible_collections.grey.distributed.plugins.module_utils._processes import MARKER
from ansible_collections.grey.distributed.plugins.module_utils._programs import (
    PROGRAM_DIGEST,
    Program,
    program_digest,
    require_name,
)

SUPERVISOR_DIGEST = "GREY_SUPERVISOR_DIGEST"


@dataclass(frozen=True)
class Layout:
    """Where an instance of supervisord keeps its things; ``instance`` marks all its processes."""

    root: str
    log_dir: str
    run_dir: str
    config_file: str

    @property
    def instance(self) -> str:
        """The mark in the environment of every process of this deployment on this host."""
        return self.root or "/"

    @property
    def programs_dir(self) -> Path:
        """Where the programs' files are."""
        return Path(self.config_file).with_name("programs")

    @property
    def socket(self) -> Path:
        """Where supervisord answers."""
        return Path(self.run_dir) / "supervisor.sock"

    @property
    def pid_file(self) -> Path:
        """Where supervisord writes its number."""
        return Path(self.run_dir) / "supervisord.pid"

    def log_file(self, program: str) -> Path:
        """Return where a program's standard output and error go."""
        return Path(self.log_dir) / f"{program}.log"


def user_fault(user: str) -> str | None:
    """Say why supervisord's programs cannot run as a user; an empty name is whoever connects."""
    number = os.geteuid()
    try:
        here = pwd.getpwuid(number).pw_name
    except KeyError:
        here = str(number)
    if user in ("", here):
        return None
    return (
        f"user: wanted to connect as {user}, whom supervisord and its programs then run as, found {here}; "
        f"connect as {user}, or leave grey_user empty"
    )


def supervisor_file(layout: Layout) -> File:
    """Render supervisord's own configuration."""
    for path in (layout.root, layout.log_dir, layout.run_dir, layout.config_file):
        _plain(path)
    return File(
        layout.config_file,
        f"""\
; Written by grey.distributed.grey_programs: changes here are overwritten.
[supervisord]
logfile = {_value(layout.log_dir)}/supervisord.log
logfile_maxbytes = 10MB
logfile_backups = 3
pidfile = {_value(str(layout.pid_file))}
childlogdir = {_value(layout.log_dir)}
directory = /
umask = 077
identifier = grey

[unix_http_server]
file = {_value(str(layout.socket))}
chmod = 0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = unix://{_value(str(layout.socket))}

[include]
files = programs/*.conf
""",
        0o600,
    )


def program_file(layout: Layout, program: Program) -> File:
    """Render a program's file. The digest in it makes supervisord see every change that matters."""
    require_name(program.name)
    for word in (*program.command, *(value for _name, value in program.environment)):
        _plain(word)
    # startretries: a program that cannot start is tried again forever, each time a second later than before.
    body = f"""\
; Written by grey.distributed.grey_programs: changes here are overwritten.
[program:{program.name}]
command = {_value(shlex.join(program.command))}
priority = {program.priority}
autostart = true
autorestart = true
startsecs = 1
startretries = 1000000
stopwaitsecs = {program.stop_seconds}
killasgroup = true
redirect_stderr = true
stdout_logfile = {_value(str(layout.log_file(program.name)))}
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 5
"""
    variables = [
        (MARKER, layout.instance),
        (PROGRAM_DIGEST, program_digest(body, program)),
        *program.environment,
    ]
    environment = ",".join(f'{name}="{_value(value)}"' for name, value in variables)
    return File(
        str(layout.programs_dir / f"{program.name}.conf"), f"{body}environment = {environment}\n", 0o600
    )


def _value(text: str) -> str:
    """Escape what supervisord would expand."""
    return text.replace("%", "%%")


def _plain(text: str) -> None:
    if re.search(r"[\s;\"'\\]", text):
        raise GreyError(
            f"{text!r}: wanted a word without spaces, quotes, backslashes and semicolons, which "
            "supervisord's "
            "files cannot carry; choose another path"
        )
