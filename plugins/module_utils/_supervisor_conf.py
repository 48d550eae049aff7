# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What supervisord reads: its own configuration and one file per program, with digests to compare by."""

from __future__ import annotations

import hashlib
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.grey.distributed.plugins.module_utils._files import File
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError
from ansible_collections.grey.distributed.plugins.module_utils._processes import MARKER

PROGRAM_DIGEST = "GREY_PROGRAM_DIGEST"
SUPERVISOR_DIGEST = "GREY_SUPERVISOR_DIGEST"


@dataclass(frozen=True)
class Program:
    """A program to keep running, with its own configuration ``files``.

    A change in one of them, or of a file in ``depends_on`` (absolute paths), restarts it.
    """

    name: str
    command: tuple[str, ...]
    priority: int
    stop_seconds: int
    depends_on: tuple[str, ...] = ()
    files: tuple[File, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


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


def supervisor_file(layout: Layout) -> File:
    """Render supervisord's own configuration."""
    for path in (layout.root, layout.log_dir, layout.run_dir, layout.config_file):
        _plain(path)
    return File(
        layout.config_file,
        f"""\
; Written by grey.distributed.grey_supervisor: changes here are overwritten.
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
    if not re.fullmatch(r"[a-z][a-z0-9-]*", program.name):
        raise GreyError(f"programs: wanted a name of small letters, digits and -, found {program.name!r}")
    for word in (*program.command, *(value for _name, value in program.environment)):
        _plain(word)
    # startretries: a program that cannot start is tried again forever, each time a second later than before.
    body = f"""\
; Written by grey.distributed.grey_supervisor: changes here are overwritten.
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
        (PROGRAM_DIGEST, _program_digest(body, program)),
        *program.environment,
    ]
    environment = ",".join(f'{name}="{_value(value)}"' for name, value in variables)
    return File(
        str(layout.programs_dir / f"{program.name}.conf"), f"{body}environment = {environment}\n", 0o600
    )


def _program_digest(body: str, program: Program) -> str:
    own = "".join(f"\0{file.path}\0{file.content}" for file in program.files)
    return digest(f"{body}{own}{program.environment or ''}", program.depends_on)


def digest(text: str, paths: tuple[str, ...] = ()) -> str:
    """Return a digest of a text and of the content of some files; a file that is not there counts as that."""
    total = hashlib.sha256(text.encode())
    for path in sorted(paths):
        try:
            content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        except FileNotFoundError:
            content = "absent"
        total.update(f"\0{path}\0{content}".encode())
    return total.hexdigest()[:32]


def written_digest(file: File) -> str:
    """Return the digest that a rendered program file carries."""
    match = re.search(rf'{PROGRAM_DIGEST}="([0-9a-f]+)"', file.content)
    return match.group(1) if match else ""


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
