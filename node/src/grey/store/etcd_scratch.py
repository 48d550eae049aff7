# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores snapshots of etcd with etcd's own program, and runs a throw-away etcd on what came of it.

The throw-away etcd listens on sockets in a folder of its own only, for its clients and its peers, and ends
with this process, however that ends.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from grey.link.etcd import Member
from grey.link.etcd_health import ask_health
from grey.store.durable import sync
from grey.store.etcd_calls import EtcdAccess
from grey.store.etcd_engine import MAX_OPERATIONS, MAX_REQUEST_BYTES
from grey.store.interface import DiskFull, StoreDamaged, StoreError
from grey.store.sqlite_file import no_room

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import IO

RESTORE_SECONDS = 1800.0
START_SECONDS = 300.0
"""An etcd reads its whole database before it answers."""

_POLL_SECONDS = 0.05
_LAST_WITHOUT_UTL = (3, 5)
_PROGRAMS = ("etcdutl", "etcdctl")
_LAUNCHER = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.getppid() == int(sys.argv[1]) or sys.exit(1); "
    "os.execv(sys.argv[2], sys.argv[2:])"
)


class Membership(msgspec.Struct, frozen=True):
    """Which member of which new cluster a restored data folder is; ``members`` maps names to peer URLs."""

    name: str
    token: str
    members: dict[str, str]


SCRATCH = Membership("scratch", "grey-scratch", {"scratch": "unix://peer:0"})


class EtcdPrograms(msgspec.Struct, frozen=True):
    """``etcd`` and the program that restores snapshots, both absolute."""

    etcd: str
    restorer: str


def find_programs(etcd: str | None) -> EtcdPrograms:
    """Find etcd (unless it is given) and, first beside it, a program that can restore. Raises StoreError."""
    found = etcd or shutil.which("etcd")
    if found is None:
        raise StoreError(
            "no etcd in PATH, and a snapshot of an etcd is checked by restoring it into one: install it "
            "(Debian: etcd-server), or name the node's file, which says where it is: --config"
        )
    path = Path(found).absolute()
    folders = dict.fromkeys([path.parent, path.resolve().parent])
    refused = []
    for name in _PROGRAMS:
        places = [str(folder / name) for folder in folders] + [name]
        for candidate in filter(None, map(shutil.which, places)):
            if name == "etcdutl" or _version(candidate) <= _LAST_WITHOUT_UTL:
                return EtcdPrograms(str(path), candidate)
            refused.append(f"{candidate} is too new to restore")
    raise StoreError(
        f"neither etcdutl nor etcdctl (up to 3.5) is beside {path} or in PATH, and one of them is needed to "
        f"restore a snapshot{''.join(f'; {reason}' for reason in dict.fromkeys(refused))}. Both are in "
        "etcd's release archive beside etcd; Debian has etcdctl in etcd-client"
    )


async def restore(programs: EtcdPrograms, snapshot: Path, data_dir: Path, member: Membership) -> None:
    """Make a member's data folder, which must not exist, from a snapshot; return when it is durable.

    Raises StoreDamaged when the snapshot is none, DiskFull, StoreError.
    """
    command = [
        *(programs.restorer, "snapshot", "restore", str(snapshot)),
        *("--data-dir", str(data_dir)),
        *("--name", member.name),
        *("--initial-cluster", ",".join(f"{name}={url}" for name, url in member.members.items())),
        *("--initial-cluster-token", member.token),
        *("--initial-advertise-peer-urls", member.members[member.name]),
    ]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_environment() | {"ETCDCTL_API": "3"},
    )
    try:
        async with asyncio.timeout(RESTORE_SECONDS):
            said, _ = await process.communicate()
    except TimeoutError:
        raise StoreError(f"{programs.restorer} did not end within {RESTORE_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        words = _words(said.decode(errors="replace"))
        if no_room(data_dir):
            raise DiskFull(f"no room to restore into {data_dir}: {words}. Make room there, then try again")
        raise StoreDamaged(
            f"{programs.restorer} could not restore the snapshot (exit code {process.returncode}): {words}"
        )
    for folder, _, names in os.walk(data_dir):
        for name in names:
            sync(Path(folder, name))
        sync(Path(folder))


@asynccontextmanager
async def scratch_engine(programs: EtcdPrograms, data_dir: Path) -> AsyncIterator[EtcdAccess]:
    """Run a throw-away etcd on restored data (``SCRATCH``); always ends it. Raises StoreError."""
    # Beside nothing else, and short: the path of a socket may have about a hundred bytes.
    with tempfile.TemporaryDirectory(prefix="grey-scratch-") as run_dir:
        access = EtcdAccess(f"unix:{run_dir}/client:0")
        with (data_dir.parent / "scratch.log").open("w+b") as log:
            process = _start(programs, data_dir, run_dir, log)
            try:
                await _await_leader(process, access, lambda: _said(log))
                yield access
            finally:
                process.kill()
                process.wait()


def _start(programs: EtcdPrograms, data_dir: Path, run_dir: str, log: IO[bytes]) -> subprocess.Popen[bytes]:
    size = (data_dir / "member" / "snap" / "db").stat().st_size
    settings: dict[str, object] = {
        "name": SCRATCH.name,
        "data-dir": data_dir,
        "listen-client-urls": "unix://client:0",
        "advertise-client-urls": "unix://client:0",
        "listen-peer-urls": SCRATCH.members[SCRATCH.name],
        "initial-advertise-peer-urls": SCRATCH.members[SCRATCH.name],
        "max-txn-ops": MAX_OPERATIONS,
        "max-request-bytes": MAX_REQUEST_BYTES,
        "quota-backend-bytes": 2 * size + 256 * 1024 * 1024,
        "heartbeat-interval": 10,
        "election-timeout": 100,
        "auto-compaction-retention": "0",
        "enable-grpc-gateway": "false",
        "logger": "zap",
        "log-level": "warn",
    }
    command = [programs.etcd, *(f"--{name}={value}" for name, value in settings.items())]
    return subprocess.Popen(  # noqa: S603 - programs that the node's file or PATH names
        [sys.executable, "-c", _LAUNCHER, str(os.getpid()), *command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=run_dir,
        env=_environment(),
        umask=0o077,
    )


async def _await_leader(
    process: subprocess.Popen[bytes], access: EtcdAccess, said: Callable[[], str]
) -> None:
    member = Member(access.endpoint, access.tls)
    deadline = time.monotonic() + START_SECONDS
    try:
        while True:
            if process.poll() is not None:
                raise StoreDamaged(
                    f"the etcd on the restored snapshot ended (exit code {process.returncode}): "
                    f"{_words(said())}"
                )
            if (await ask_health([member], 1.0)).majority:
                return
            if time.monotonic() > deadline:
                raise StoreError(
                    f"the etcd on the restored snapshot was not ready within {START_SECONDS:g} s: "
                    f"{_words(said())}"
                )
            await asyncio.sleep(_POLL_SECONDS)
    finally:
        await member.close()


def _environment() -> dict[str, str]:
    """Return the environment without the settings that etcd and its tools would take from it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ETCD_", "ETCDCTL_"))}
    if platform.machine() == "aarch64":
        # etcd before 3.5 starts there only when it is told that this is meant.
        kept["ETCD_UNSUPPORTED_ARCH"] = "arm64"
    return kept


def _version(etcdctl: str) -> tuple[int, int]:
    """Return major and minor version, a very new one when it does not say."""
    try:
        said = subprocess.run(  # noqa: S603 - a program that PATH or the node's file names
            [etcdctl, "version"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env=_environment() | {"ETCDCTL_API": "3"},
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    match = re.search(r"etcdctl version: (\d+)\.(\d+)", said)
    return (int(match[1]), int(match[2])) if match else (999, 0)


def _said(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode(errors="replace")


def _words(said: str) -> str:
    """Return the end of what a program printed."""
    lines = [line for line in said.splitlines() if line.strip()]
    return " | ".join(lines[-3:])[-600:] or "it said nothing"
