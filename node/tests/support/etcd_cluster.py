# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real etcd processes on loopback with their own CA, quick to elect, for tests."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from support.pki import Authority

from grey.config.federation_store import StoreMember
from grey.config.model import Endpoint
from grey.federation.etcd_store import EtcdFederationStore
from grey.federation.member_process import command_line, member_data
from grey.store.etcd_bootstrap import load
from grey.store.etcd_data import inspect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from grey.config.model import TlsFiles
    from grey.link.etcd_health import StoreHealth
    from grey.store.etcd_bootstrap import State

ETCD = shutil.which("etcd") or "etcd"
STORE_PEER_NAME = "federation-store.grey.test"


class EtcdMember:
    """One etcd process, started as ``greyd federation-store`` does; its files live below ``folder``."""

    def __init__(self, folder: Path, name: str, tls: TlsFiles, options: Mapping[str, object]) -> None:
        """``options`` go last on its command line."""
        client, peer = free_ports(2)
        self.folder = folder
        self.own = StoreMember(
            name=name,
            etcd=ETCD,
            data_dir=str(folder / "data"),
            marker_file=str(folder / "member.json"),
            bootstrap_file=str(folder / "bootstrap.json"),
            client=Endpoint("127.0.0.1", client),
            peer=Endpoint("127.0.0.1", peer),
            tls=tls,
            heartbeat_milliseconds=50,
        )
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        return self.own.name

    @property
    def data_dir(self) -> Path:
        return Path(self.own.data_dir)

    @property
    def endpoint(self) -> str:
        return str(self.own.client)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def section(self) -> dict[str, Any]:
        """Return ``node.federation_store.member`` of the node's file beside this member."""
        plain: dict[str, Any] = msgspec.to_builtins(self.own)
        plain |= {"client": str(self.own.client), "peer": str(self.own.peer)}
        plain["quota"] = f"{plain.pop('quota_bytes') // 2**20}Mi"
        plain["heartbeat"] = f"{plain.pop('heartbeat_milliseconds')}ms"
        plain["retention"] = f"{plain.pop('retention_seconds'):g}s"
        return plain

    def start(self) -> None:
        has_data = inspect(self.data_dir) == "member"
        bootstrap = None if has_data else load(member_data(self.own))
        command = command_line(self.own, STORE_PEER_NAME, bootstrap)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *(f"--{name.replace('_', '-')}={value}" for name, value in self._options.items())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    "PATH": os.environ.get("PATH", ""),
                    "ETCD_UNSUPPORTED_ARCH": os.environ.get("ETCD_UNSUPPORTED_ARCH", ""),
                },
            )

    def kill(self) -> None:
        """SIGKILL, and wait for the end; a stopped process ends too."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


class EtcdCluster:
    """Some members that form one cluster. ``client_tls`` is a client's certificate of the same CA."""

    def __init__(self, folder: Path, size: int, **settings: object) -> None:
        """``settings`` are options of every member's etcd, with ``_`` for ``-``."""
        self.folder = folder
        self.authority = Authority("federation store")
        self.client_tls = self.authority.issue(folder / "client", "client")
        self._settings = settings
        self.members = [self.make(number) for number in range(1, size + 1)]
        peers = {member.name: member.own.peer for member in self.members}
        for member in self.members:
            write_bootstrap(Path(member.own.bootstrap_file), "new", peers, folder.name)

    def make(self, number: int) -> EtcdMember:
        """Return a member that does not run yet, and has no bootstrap file."""
        name = f"member-{number}"
        tls = self.authority.issue(self.folder / name, name, dns=[STORE_PEER_NAME])
        return EtcdMember(self.folder / name, name, tls, self._settings)

    @property
    def endpoints(self) -> list[str]:
        return [member.endpoint for member in self.members]

    def store(
        self, *, timeout_seconds: float = 5.0, tls: TlsFiles | None = None, federation: str = "test"
    ) -> EtcdFederationStore:
        return EtcdFederationStore(
            federation, self.endpoints, tls or self.client_tls, timeout_seconds=timeout_seconds
        )

    def start(self) -> None:
        for member in self.members:
            member.start()

    def stop(self) -> None:
        for member in self.members:
            member.kill()

    async def healthy(self, *, members: int | None = None, within: float = 20.0) -> StoreHealth:
        """Wait until all members (or ``members`` of them) answer and a majority follows one leader."""
        wanted = len(self.members) if members is None else members
        store = self.store(timeout_seconds=1.0)
        try:
            async with asyncio.timeout(within):
                while True:
                    health = await store.health()
                    if health.majority and health.reachable >= wanted:
                        return health
                    await asyncio.sleep(0.05)
        finally:
            await store.close()

    async def leader(self) -> EtcdMember:
        """Return the member that leads now."""
        store = self.store(timeout_seconds=1.0)
        try:
            health = await store.health()
        finally:
            await store.close()
        name = next(each.name for each in health.members if each.leader)
        return next(each for each in self.members if each.name == name)


def write_bootstrap(path: Path, state: State, members: Mapping[str, Endpoint], token: str) -> None:
    """Write the file that says how a member without data begins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    peers = {name: str(peer) for name, peer in members.items()}
    path.write_bytes(msgspec.json.encode({"state": state, "token": token, "members": peers}))


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listened on a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
