# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine under a cluster's data as real etcd processes, started as ``greyd engine`` does, with faults."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from support.etcd_cluster import ETCD, write_bootstrap
from support.pki import Authority
from support.store_load import until

from grey.config.engine import DataStore, EngineMember
from grey.config.model import Endpoint
from grey.link.etcd import Member
from grey.link.etcd_health import ask_health
from grey.store.etcd import EtcdAccess, EtcdStore
from grey.store.etcd_bootstrap import load
from grey.store.etcd_data import inspect
from grey.store.etcd_engine import clear_socket, command_line, member_data

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from grey.link.etcd_health import MemberHealth
    from grey.store.etcd_bootstrap import State

PEER_NAME = "aws-east.grey.internal"
HEARTBEAT_MILLISECONDS = 50
QUOTA_BYTES = 256 * 1024 * 1024
_ENVIRONMENT = ("PATH", "ETCD_UNSUPPORTED_ARCH")
# Ends the process with the test. Not a preexec_fn: gRPC's threads make a fork abort now and then.
_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()


class EngineProcess:
    """One member; everything of it lives below ``folder``."""

    def __init__(self, folder: Path, store: DataStore, options: Mapping[str, str]) -> None:
        self.folder = folder
        self.store = store
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def member(self) -> EngineMember:
        assert self.store.member is not None
        return self.store.member

    @property
    def name(self) -> str:
        return self.member.name

    @property
    def access(self) -> EtcdAccess:
        """How greyd reaches this member."""
        assert self.store.endpoint is not None
        return EtcdAccess(self.store.endpoint, self.store.tls, self.store.quota_bytes)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def store_section(self) -> dict[str, Any]:
        """Return ``node.store`` of the node's file beside this member."""
        plain: dict[str, Any] = msgspec.to_builtins(self.store)
        plain["quota"] = f"{plain.pop('quota_bytes') // 2**20}Mi"
        member = plain["member"]
        member["peer"] = str(self.member.peer)
        member["heartbeat"] = f"{member.pop('heartbeat_milliseconds')}ms"
        return {key: value for key, value in plain.items() if value is not None}

    def bootstrap(self, state: State, members: Mapping[str, Endpoint], token: str) -> None:
        """Write the file that says how it begins."""
        write_bootstrap(Path(self.member.bootstrap_file), state, members, token)

    def start(self) -> None:
        """Start it; ``EngineCluster.healthy`` waits until it answers."""
        has_data = inspect(Path(self.member.data_dir)) == "member"
        bootstrap = None if has_data else load(member_data(self.member))
        command = [*_DIES_WITH_US, *command_line(self.store, self.member, PEER_NAME, bootstrap)]
        command += [f"--{name}={value}" for name, value in self._options.items()]
        Path(self.member.run_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
        clear_socket(self.store)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.member.run_dir,
                env={key: os.environ[key] for key in _ENVIRONMENT if key in os.environ},
                umask=0o077,
            )

    def kill(self) -> None:
        """SIGKILL, and wait for the end; a frozen process ends too."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def log(self) -> str:
        """Return the end of what it logged."""
        return (self.folder / "log").read_text()[-2000:]

    async def open(self, *, timeout_seconds: float = 10.0) -> EtcdStore:
        """Open the store as greyd beside this member does."""
        return await EtcdStore.open(self.access, timeout_seconds=timeout_seconds)

    async def health(self) -> MemberHealth:
        """Ask this member alone."""
        member = Member(self.access.endpoint, self.access.tls)
        try:
            return (await ask_health([member], 1.0)).members[0]
        finally:
            await member.close()


class EngineCluster:
    """The members of one engine, in a temporary folder of their own: paths of sockets must be short."""

    def __init__(
        self,
        size: int = 1,
        *,
        tls: bool = False,
        quota_bytes: int = QUOTA_BYTES,
        etcd_options: Mapping[str, str] | None = None,
    ) -> None:
        """``tls``: greyd reaches them over mutual TLS instead of a socket. ``etcd_options`` go last."""
        if shutil.which(ETCD) is None:
            raise RuntimeError("these tests need etcd in PATH (Debian: apt-get install etcd-server)")
        self.folder = Path(tempfile.mkdtemp(prefix="grey-engine-"))
        self.authority = Authority("engine")
        # Addresses that nobody else uses: a port of 127.0.0.1 may be taken between looking and listening.
        self._net = f"127.{random.randint(100, 250)}.{random.randint(1, 250)}"
        self._made = 0
        self._settings: dict[str, Any] = {
            "tls": tls,
            "quota_bytes": quota_bytes,
            "options": etcd_options or {},
        }
        self.members = [self._make() for _ in range(size)]
        for member in self.members:
            member.bootstrap("new", self.peers(), self.folder.name)

    def joiner(self) -> EngineProcess:
        """Return a further member that does not run yet, with the file that says how it joins the others."""
        member = self._make()
        member.bootstrap("existing", self.peers() | {member.name: member.member.peer}, self.folder.name)
        self.members.append(member)
        return member

    def peers(self) -> dict[str, Endpoint]:
        """Return the peers of all members by name."""
        return {member.name: member.member.peer for member in self.members}

    def start(self) -> None:
        for member in self.members:
            member.start()

    def stop(self) -> None:
        """Kill what runs and remove everything."""
        for member in self.members:
            member.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def healthy(self, *, members: int | None = None, within: float = 30.0) -> list[MemberHealth]:
        """Wait until all members (or ``members`` of them) answer and follow a leader."""
        wanted = len(self.members) if members is None else members
        deadline = time.monotonic() + within
        while True:
            found = await self._health()
            if sum(each.has_leader for each in found) >= wanted and any(each.leader for each in found):
                return found
            if time.monotonic() > deadline:
                logs = "\n".join(member.log() for member in self.members)
                raise AssertionError(f"{wanted} members were not healthy in {within} s: {found}\n{logs}")
            await asyncio.sleep(0.05)

    async def logged(self, member: EngineProcess, words: str, *, within: float = 20.0) -> None:
        """Wait until a member has logged something."""
        await until(lambda: words in member.log(), within)

    async def leader(self) -> EngineProcess:
        """Return the member that leads now."""
        found = await self.healthy(members=len(self.members) // 2 + 1)
        return next(member for member, health in zip(self.members, found, strict=True) if health.leader)

    async def followers(self) -> list[EngineProcess]:
        """Return the members that do not lead now."""
        leader = await self.leader()
        return [member for member in self.members if member is not leader]

    async def _health(self) -> list[MemberHealth]:
        return list(await asyncio.gather(*(member.health() for member in self.members)))

    def _make(self) -> EngineProcess:
        self._made += 1
        name, address, tls = f"node-{self._made}", f"{self._net}.{self._made}", self._settings["tls"]
        folder = self.folder / name
        # Connections within a host come from 127.0.0.1, whichever of its addresses they go to.
        files = self.authority.issue(folder / "tls", name, dns=[PEER_NAME], addresses=[address, "127.0.0.1"])
        member = EngineMember(
            name=name,
            etcd=ETCD,
            data_dir=str(folder / "data"),
            run_dir=str(folder / "run"),
            marker_file=str(folder / "member.json"),
            bootstrap_file=str(folder / "bootstrap.json"),
            peer=Endpoint(address, 2380),
            tls=files,
            heartbeat_milliseconds=HEARTBEAT_MILLISECONDS,
        )
        store = DataStore(
            engine="etcd",
            endpoint=f"{address}:2379" if tls else f"unix:{folder}/run/etcd:0",
            tls=files if tls else None,
            quota_bytes=self._settings["quota_bytes"],
            member=member,
        )
        return EngineProcess(folder, store, self._settings["options"])


@asynccontextmanager
async def engine_cluster(size: int = 1, **settings: Any) -> AsyncIterator[EngineCluster]:
    """Start a cluster, wait until it is healthy, and stop it in the end."""
    cluster = EngineCluster(size, **settings)
    try:
        cluster.start()
        await cluster.healthy()
        yield cluster
    finally:
        cluster.stop()
