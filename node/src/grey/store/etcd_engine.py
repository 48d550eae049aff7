# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The etcd under a cluster's data, as it runs beside greyd: its command line, its folders, its health.

greyd reaches it through a unix socket in a folder that only the service's user may enter. etcd names a socket
``unix://NAME:NUMBER`` and makes the file ``NAME:NUMBER`` where it was started, so that it is started there.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from grey.link.etcd import Member
from grey.link.etcd_health import ask_health
from grey.store import etcd_flags, etcd_process
from grey.store.etcd_data import MemberData, MemberRefused
from grey.store.interface import (
    MAX_COMPARES_PER_TRANSACTION,
    MAX_TRANSACTION_BYTES,
    MAX_WRITES_PER_TRANSACTION,
)

if TYPE_CHECKING:
    from grey.config.engine import DataStore, EngineMember
    from grey.store.etcd_bootstrap import Bootstrap
    from grey.store.etcd_process import CheckResult

MAX_OPERATIONS = max(MAX_COMPARES_PER_TRANSACTION, MAX_WRITES_PER_TRANSACTION)

MAX_REQUEST_BYTES = MAX_TRANSACTION_BYTES + 2 * 1024 * 1024
"""A full transaction with what each of its operations costs beside key and value."""

KEPT_ENTRIES = 10_000
"""etcd holds this many transactions and up to 5,000 more in memory; its default is 100,000."""


def prepare(store: DataStore, member: EngineMember, peer_name: str) -> list[str]:
    """Check the data, make the run folder, go there; return the command line to become.

    ``peer_name`` is the DNS name in the certificates of all members. Raises MemberRefused.
    """
    bootstrap = etcd_process.prepare(member_data(member))
    _enter(Path(member.run_dir))
    clear_socket(store)
    return command_line(store, member, peer_name, bootstrap)


def command_line(
    store: DataStore, member: EngineMember, peer_name: str, bootstrap: Bootstrap | None
) -> list[str]:
    """Return the command line of the member. It is to be started in its run folder."""
    endpoint = store.endpoint or ""
    local = endpoint.startswith("unix:")
    return etcd_flags.command_line(
        member,
        client=f"unix://{Path(endpoint).name}" if local else f"https://{endpoint}",
        peer_name=peer_name,
        bootstrap=bootstrap,
        more={
            "max-txn-ops": MAX_OPERATIONS,
            "max-request-bytes": MAX_REQUEST_BYTES,
            "quota-backend-bytes": store.quota_bytes,
            "snapshot-count": KEPT_ENTRIES,
            "auto-compaction-retention": "0",  # greyd compacts: it knows what replicas still need
            "experimental-initial-corrupt-check": "true",
            "enable-grpc-gateway": "false",
            **({} if local else etcd_flags.client_tls(member)),
        },
    )


def clear_socket(store: DataStore) -> None:
    """Remove the socket of a killed etcd: the next would not listen on it. Raises MemberRefused."""
    if store.endpoint is None or not store.endpoint.startswith("unix:"):
        return
    path = Path(store.endpoint.removeprefix("unix:"))
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as fault:
            raise MemberRefused(f"{path} cannot be tried ({fault}): see what it is, and remove it") from fault
    raise MemberRefused(f"another process listens on {path}: end it first (fuser {path})")


async def check_health(
    store: DataStore, *, wait_seconds: float = 0.0, timeout_seconds: float = 3.0
) -> CheckResult:
    """Ask the engine at the node's endpoint until it is healthy, or time is over. Raises MemberRefused."""
    asked = Member(store.endpoint or "", store.tls)
    try:
        return await etcd_process.check_health(
            lambda: ask_health([asked], timeout_seconds),
            member=None if store.member is None else member_data(store.member),
            wait_seconds=wait_seconds,
        )
    finally:
        await asked.close()


def member_data(member: EngineMember) -> MemberData:
    """Return the member as ``grey.store.etcd_process`` takes it."""
    return MemberData(member, store="the cluster's engine", key="node.store.member", command="greyd engine")


def _enter(run_dir: Path) -> None:
    """Make the folder of the socket, see that nobody else may enter it, and go there."""
    os.umask(0o077)
    try:
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = run_dir.stat()
        if found.st_uid != os.geteuid():
            raise MemberRefused(
                f"{run_dir} must belong to the user of this process ({os.geteuid()}), since who enters it "
                f"may change all data, but belongs to {found.st_uid}: chown or remove it"
            )
        if stat.S_IMODE(found.st_mode) != 0o700:
            run_dir.chmod(0o700)
        os.chdir(run_dir)
    except OSError as fault:
        raise MemberRefused(
            f"{run_dir} cannot be made ready for the engine's socket ({fault}): check owner and mode"
        ) from fault
