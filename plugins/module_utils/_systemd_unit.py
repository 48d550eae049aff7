# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd reads: one hardened unit per program, with the digest to compare by in its environment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ansible_collections.grey.distributed.plugins.module_utils._files import File
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError
from ansible_collections.grey.distributed.plugins.module_utils._processes import MARKER
from ansible_collections.grey.distributed.plugins.module_utils._programs import (
    PROGRAM_DIGEST,
    Program,
    program_digest,
    require_name,
)

UNIT_DIR = Path("/etc/systemd/system")
HEADER = "# Written by grey.distributed.grey_programs: changes here are overwritten."
_HOMES = ("/home", "/root", "/run/user")


@dataclass(frozen=True)
class Service:
    """Whose the programs are and who runs them. ``instance`` marks all their processes."""

    root: str
    run_dir: str
    user: str
    group: str

    @property
    def instance(self) -> str:
        """The mark in the environment of every process of this deployment on this host."""
        return self.root or "/"


def unit_name(program: str) -> str:
    """Return the unit of a program: greyd.service, and grey-NAME.service for what greyd needs."""
    return f"{program}.service" if program == "greyd" else f"grey-{program}.service"


def unit_file(service: Service, program: Program) -> File:
    """Render a program's unit. The digest in it stands for all that makes the program what it is."""
    require_name(program.name)
    if not PurePosixPath(program.command[0]).is_absolute():
        raise GreyError(
            f"programs: {program.name}: wanted an absolute path of its program, found {program.command[0]!r}"
        )
    variables = [(MARKER, service.instance), *program.environment]
    body = "\n".join(
        [
            HEADER,
            "[Unit]",
            *_unit_section(program),
            "",
            "[Service]",
            *_service_section(service, program),
            *(f"Environment={_quoted(f'{name}={value}')}" for name, value in variables),
        ]
    )
    mark = f"{PROGRAM_DIGEST}={program_digest(body, program)}"
    install = "[Install]\nWantedBy=multi-user.target\n"
    path = UNIT_DIR / unit_name(program.name)
    return File(str(path), f"{body}\nEnvironment={_quoted(mark)}\n\n{install}", 0o644)


def instance_of(text: str) -> str | None:
    """Return the deployment that a unit file says it is of; None when it is none of ours."""
    if not text.startswith(HEADER):
        return None
    match = re.search(rf'^Environment="{MARKER}=(.*)"$', text, re.MULTILINE)
    return re.sub(r"\\(.)|%(%)", r"\1\2", match.group(1)) if match else None


def _unit_section(program: Program) -> list[str]:
    after = ["network-online.target", *map(unit_name, program.after)]
    return [
        f"Description={_text(program.description or f'{program.name} of Grey')}",
        "Wants=network-online.target",
        f"After={' '.join(after)}",
        # Never start on the empty folder below a volume that is not mounted yet.
        *_paths("RequiresMountsFor", program.writable),
        # Tried again for ever, a second apart: a node whose disk was full for ten minutes comes back.
        "StartLimitIntervalSec=0",
    ]


def _service_section(service: Service, program: Program) -> list[str]:
    return [
        "Type=exec",
        *([f"User={_text(service.user)}"] if service.user else []),
        *([f"Group={_text(service.group)}"] if service.group else []),
        f"ExecStart={' '.join(_quoted(word).replace('$', '$$') for word in program.command)}",
        "Restart=always",
        "RestartSec=1s",
        f"TimeoutStopSec={program.stop_seconds}s",
        "KillMode=mixed",
        "LimitNOFILE=65536",
        "UMask=0077",
        f"SyslogIdentifier={program.name}",
        *_run_dir(service),
        *_paths("ReadWritePaths", program.writable),
        *_hardening(service, program),
    ]


def _run_dir(service: Service) -> list[str]:
    """Have systemd make the folder of sockets, which is gone after each boot; all units share it."""
    below = service.run_dir.removeprefix("/run/")
    if below == service.run_dir:
        return _paths("ReadWritePaths", (service.run_dir,)) if service.run_dir else []
    return [f"RuntimeDirectory={_text(below)}", "RuntimeDirectoryMode=0755", "RuntimeDirectoryPreserve=yes"]


def _hardening(service: Service, program: Program) -> list[str]:
    """Return what the program may not do. Every setting is one that systemd 247 knows.

    Not MemoryDenyWriteExecute: conflict handlers are compiled while greyd runs.
    """
    paths = [
        service.run_dir,
        program.command[0],
        *program.depends_on,
        *program.writable,
        *(f.path for f in program.files),
    ]
    at_home = any(PurePosixPath(path).is_relative_to(home) for path in paths for home in _HOMES)
    return [
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "ProtectSystem=strict",
        # Who keeps programs or data in a home folder must be able to read them there.
        f"ProtectHome={'read-only' if at_home else 'yes'}",
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelLogs=yes",
        "ProtectControlGroups=yes",
        "ProtectClock=yes",
        "ProtectHostname=yes",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "LockPersonality=yes",
        "SystemCallArchitectures=native",
        "SystemCallFilter=@system-service",
        # A refused call is an error that the program can handle, as on an older kernel, not its end.
        "SystemCallErrorNumber=EPERM",
    ]


def _paths(setting: str, paths: tuple[str, ...]) -> list[str]:
    return [f"{setting}={' '.join(map(_quoted, paths))}"] if paths else []


def _quoted(text: str) -> str:
    """Return a word in quotes, as systemd reads it back."""
    return '"' + _text(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _text(text: str) -> str:
    """Escape what systemd would expand, and refuse what would begin another line."""
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise GreyError(f"{text!r}: wanted a text without control characters, which unit files cannot carry")
    return text.replace("%", "%%")
