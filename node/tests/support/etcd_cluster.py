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
from typing import TYPE_CHECKING

import msgspec
from support.pki import Authority

from grey.federation.etcd_store import EtcdFederationStore

if TYPE_CHECKING:
    from pathlib import Path

    from grey.config.model import TlsFiles
    from grey.link.etcd_health import StoreHealth

ETCD = shutil.which("etcd") or "etcd"


class EtcdMember:
    """One etcd process; its files live below ``folder``."""

    def __init__(self, folder: Path, name: str, tls: TlsFiles) -> None:
        self.name = name
        self.folder = folder
        self.data_dir = folder / "data"
        self.config_file = folder / "etcd.yaml"
        self.tls = tls
        self.client_port, self.peer_port = free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.client_port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def configure(self, initial_cluster: str, token: str, **more: object) -> None:
        transport = {
            "cert-file": self.tls.cert_file,
            "key-file": self.tls.key_file,
            "trusted-ca-file": self.tls.ca_file,
            "client-cert-auth": True,
        }
        client = f"https://{self.endpoint}"
        peer = f"https://127.0.0.1:{self.peer_port}"
        config = {
            "name": self.name,
            "data-dir": str(self.data_dir),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": initial_cluster,
            "initial-cluster-token": token,
            "initial-cluster-state": "new",
            "heartbeat-interval": 50,
            "election-timeout": 500,
            "client-transport-security": transport,
            "peer-transport-security": transport,
            "logger": "zap",
            "log-level": "warn",
            **more,
        }
        self.config_file.write_bytes(msgspec.json.encode(config))  # JSON is YAML

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [ETCD, "--config-file", str(self.config_file)],
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
        """``settings`` go into every member's configuration file, with ``_`` for ``-``."""
        self.folder = folder
        self.authority = Authority("federation store")
        self.client_tls = self.authority.issue(folder / "client", "client")
        self.members = []
        for number in range(1, size + 1):
            name = f"member-{number}"
            tls = self.authority.issue(folder / name, name)
            self.members.append(EtcdMember(folder / name, name, tls))
        initial = ",".join(f"{each.name}=https://127.0.0.1:{each.peer_port}" for each in self.members)
        for member in self.members:
            member.configure(
                initial, folder.name, **{key.replace("_", "-"): value for key, value in settings.items()}
            )

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
