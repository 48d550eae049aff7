# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine under the cluster's data, and this host's part of the federation store."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from grey.cli.doctor import disk
from grey.cli.doctor.findings import Area
from grey.link import etcd_alarm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from grey.cli.doctor.findings import Finding
    from grey.config.engine import DataStore
    from grey.config.federation_store import FederationStoreAccess
    from grey.config.node import NodeFile
    from grey.link.etcd_health import MemberHealth, StoreHealth

ENGINE = Area("engine")
STORE = Area("federation store")

_MAGIC = b"SQLite format 3\0"
_LARGE_LOG_BYTES = 512 * 1024 * 1024
_OTHERS = "start the members on the other hosts, or mend the network to them"
_START = "start the engine: greyd engine; then read its log"
_REPAIR = "stop greyd, keep a copy, and restore a backup or let this host copy from another cluster"
_SPACE_OF_STORE = "raise its quota-backend-bytes, restart its members one by one, then etcdctl alarm disarm"


class _Member(Protocol):
    """The section ``member`` of either store in the node's file."""

    @property
    def name(self) -> str: ...
    @property
    def etcd(self) -> str: ...
    @property
    def data_dir(self) -> str: ...
    @property
    def marker_file(self) -> str: ...


async def look_at_engine(node: NodeFile, timeout_seconds: float) -> list[Finding]:
    """Look at the cluster's engine."""
    if node.store.engine == "sqlite":
        return list(sqlite(Path(node.data_dir) / "data.sqlite", Path(node.identity_file)))
    return await _etcd(node.store, timeout_seconds)


async def look_at_store(access: FederationStoreAccess, timeout_seconds: float) -> list[Finding]:
    """Look at the federation store as this node reaches it."""
    from grey.link.etcd import Member

    findings = [] if access.member is None else list(_local(STORE, access.member))
    health = await _health([Member(str(each), access.tls) for each in access.endpoints], timeout_seconds)
    if isinstance(health, str):
        return [*findings, STORE.problem("members", health, "mend the certificate of the store: see above")]
    step = "start greyd's federation store there (greyd federation-store), or mend the network to it"
    for member in health.members:
        findings += _of_member(STORE, member, step)
    reached = f"{health.reachable} of {len(health.members)} members answer"
    if not health.majority:
        found = f"{reached}, and no majority follows one leader: the primary stops writing"
        findings.append(STORE.problem("majority", found, step))
    elif health.reachable < len(health.members):
        spare = (len(health.members) - 1) // 2 - (len(health.members) - health.reachable)
        found = f"{reached}; {spare or 'no'} more may fail before writes stop"
        findings.append(STORE.warning("majority", found, step))
    else:
        findings.append(STORE.ok("majority", reached))
    return findings


def sqlite(path: Path, identity: Path) -> Iterator[Finding]:
    """Look at the file of the embedded store, from outside: opening it as root would leave files of root's.

    greyd itself checks the pages when it starts.
    """
    from grey.store.sqlite_file import APPLICATION_ID, SCHEMA_VERSION

    try:
        with path.open("rb") as file:
            header = file.read(100)
            length = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        if identity.exists():
            step = (
                "restore a backup, or let this host copy from another cluster: nothing is made anew by itself"
            )
            yield ENGINE.problem(
                "data file", f"{path} is gone, but {identity} says that there was data", step
            )
        else:
            yield ENGINE.warning("data file", f"{path} does not exist yet", "run greyd init")
        return
    except OSError as error:
        yield ENGINE.unreadable("data file", path, error)
        return
    size = int.from_bytes(header[16:18]) * (65536 if header[16:18] == b"\0\1" else 1)
    if not header.startswith(_MAGIC) or int.from_bytes(header[68:72]) != APPLICATION_ID:
        yield ENGINE.problem(
            "data file", f"{path} is no data store of Grey", f"correct data_dir, or {_REPAIR}"
        )
    elif size == 0 or length % size:
        yield ENGINE.problem("data file", f"{path} ends in the middle of a page ({length} bytes)", _REPAIR)
    elif (version := int.from_bytes(header[60:64])) != SCHEMA_VERSION:
        found = f"{path} has schema version {version}, this release knows {SCHEMA_VERSION}"
        yield ENGINE.problem("data file", found, "run the release that wrote it")
    else:
        yield ENGINE.ok("data file", f"{path} is a data store of {disk.size(length)}")
    yield from _log(path.with_name(f"{path.name}-wal"))


def _log(path: Path) -> Iterator[Finding]:
    try:
        length = path.stat().st_size
    except OSError:
        return
    if length > _LARGE_LOG_BYTES:
        found = f"{path} has grown to {disk.size(length)}: something keeps it from being merged"
        yield ENGINE.warning("write-ahead log", found, "end what reads the file besides greyd (fuser -v)")


async def _etcd(store: DataStore, timeout_seconds: float) -> list[Finding]:
    from grey.link.etcd import Member

    findings = [] if store.member is None else list(_local(ENGINE, store.member))
    endpoint = store.endpoint or ""
    socket = Path(endpoint.removeprefix("unix:"))
    if endpoint.startswith("unix:"):
        missing = _socket(socket)
        if missing is not None:
            return [*findings, missing]
    health = await _health([Member(endpoint, store.tls)], timeout_seconds)
    if isinstance(health, str):
        return [*findings, ENGINE.problem("etcd", health, "mend the certificate of the engine: see above")]
    for member in health.members:
        findings += _of_member(ENGINE, member, _START)
        if member.reachable and not member.has_leader:
            found = "it has no leader: less than a majority of the cluster's nodes run their engine"
            findings.append(ENGINE.problem("majority", found, _OTHERS))
        findings += _quota(member, store.quota_bytes)
    if store.member is not None:
        others = {name: peer for name, peer in health.peers.items() if name != store.member.name}
        reached = await asyncio.gather(*(_connects(peer, timeout_seconds) for peer in others.values()))
        for (name, peer), ok in zip(others.items(), reached, strict=True):
            if ok:
                findings.append(ENGINE.ok(name, f"{peer} takes connections of peers"))
            else:
                step = f"start the engine on {name}, or mend the network to it"
                findings.append(ENGINE.warning(name, f"nobody answers on {peer}", step))
    return findings


def _socket(path: Path) -> Finding | None:
    """Say why the engine cannot be asked through its socket; None when it can be tried."""
    try:
        path.stat()
    except PermissionError as error:
        return ENGINE.unreadable("etcd", path, error)
    except OSError:
        return ENGINE.problem("etcd", f"{path} does not exist: etcd does not run", _START)
    return None


async def _health(members: list[Any], timeout_seconds: float) -> StoreHealth | str:
    from grey.link.etcd_health import ask_health

    try:
        return await ask_health(members, timeout_seconds)
    except ValueError as error:
        return str(error)
    finally:
        for member in members:
            await member.close()


def _of_member(area: Area, member: MemberHealth, step: str) -> Iterator[Finding]:
    name = member.name or member.endpoint
    for alarm in member.alarms:
        if "no leader" in alarm:
            continue  # etcd lists it among its errors; it is said below
        by_hand = area is STORE and etcd_alarm.SPACE in alarm  # greyd gives back no space of this one
        known = _SPACE_OF_STORE if by_hand else etcd_alarm.next_step(alarm)
        yield area.problem(name, f"alarm: {alarm.strip()}", known)
    if member.has_leader:
        size = "" if member.database_bytes is None else f", {disk.size(member.database_bytes)}"
        role = "leads" if member.leader else "follows"
        yield area.ok(name, f"{member.endpoint} answers and {role}{size}")
    elif member.reachable:
        yield area.warning(name, f"{member.endpoint} answers, but has no leader", _OTHERS)
    else:
        why = member.problem or "no answer"
        yield area.warning(name, f"{member.endpoint} does not answer: {why}", step)


def _quota(member: MemberHealth, quota_bytes: int | None) -> Iterator[Finding]:
    if member.database_bytes is None or not quota_bytes:
        return
    share = member.database_bytes / quota_bytes
    said = f"{disk.size(member.database_bytes)} of {disk.size(quota_bytes)} are used ({share:.0%})"
    if share > 0.8:
        step = (
            "greyd gives back what compaction frees; if it stays so, raise store.quota (up to 8Gi), then "
            "restart engine and greyd, one node after the other; or delete keys"
        )
        yield ENGINE.warning("quota", said, step)
    else:
        yield ENGINE.ok("quota", said)


def _local(area: Area, member: _Member) -> Iterator[Finding]:
    """Look at what lies here of a member: its program, its data and its marker."""
    if not os.access(member.etcd, os.X_OK):
        yield area.problem(
            "program", f"{member.etcd} cannot be run", "install etcd there, or correct the path"
        )
    marker = Path(member.marker_file)
    try:
        state = msgspec.json.decode(marker.read_bytes(), type=dict[str, Any]).get("state")
        has_data = any((Path(member.data_dir) / "member" / "wal").glob("*.wal"))
    except FileNotFoundError:
        step = "it is made at the first start; deploy.yml starts it"
        yield area.warning("member", f"{marker} does not exist: {member.name} was never started", step)
        return
    except OSError as error:
        yield area.unreadable("member", marker, error)
        return
    except (msgspec.DecodeError, msgspec.ValidationError, AttributeError):
        step = 'write {"state": "member"} into it if this host was ever a member, else delete it'
        yield area.problem("member", f"{marker} cannot be read", step)
        return
    if state == "member" and not has_data:
        found = f"{marker} says that {member.name} is a member, but its data in {member.data_dir} is gone"
        step = "put the data back; if it is lost, remove the member from the store and add it anew"
        yield area.problem("member", found, step)
    elif state != "member":
        found = f"{member.name} has not been part of a healthy majority yet"
        yield area.warning(
            "member", found, "run the check of its health once the others run (deploy.yml does)"
        )
    else:
        yield area.ok("member", f"{member.name} has its data in {member.data_dir}")


async def _connects(peer: str, timeout_seconds: float) -> bool:
    host, _, port = peer.rpartition(":")
    try:
        async with asyncio.timeout(timeout_seconds):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
