# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole federation on loopback: real etcd, real greyd, its own certificates; for tests and benches.

A cluster is one greyd on SQLite, or some greyds that share an etcd of some members (``Shared``).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import aiohttp
from support.engine_cluster import QUOTA_BYTES, EngineCluster
from support.etcd_cluster import EtcdCluster, free_ports
from support.pki import Authority
from yarl import URL

from grey.config.federation import load
from grey.link.resolver import NamesResolver
from grey.link.tls import client_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from support.engine_cluster import EngineProcess

DOMAIN = "grey.test"
GREYD = str(Path(sys.executable).with_name("greyd"))


class Answer(NamedTuple):
    """What a node answered."""

    status: int
    body: bytes
    headers: Any

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])


class GreyNode:
    """One greyd process. Its files live below ``folder``."""

    def __init__(
        self,
        folder: Path,
        cluster: str,
        address: str,
        host: str,
        *,
        number: int = 1,
        engine: EngineProcess | None = None,
        greyd: Sequence[str] | None = None,
    ) -> None:
        """``engine`` is the member of the cluster's engine that runs beside it; None: SQLite."""
        self._greyd = greyd
        self.folder = folder
        self.cluster = cluster
        self.name = f"{cluster}-{number}"
        self.address = address
        self.host = host
        self.engine = engine
        self.config = folder / "grey.yaml"
        self.data_dir = folder / "data"
        self.identity = folder / "identity.json"
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *arguments: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
        """Run greyd to its end."""
        return subprocess.run(
            [GREYD, *arguments, "--config", str(self.config)],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def init(self) -> dict[str, Any]:
        done = self.command("init")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*(self._greyd or [GREYD]), "run", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def freeze(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait for the end; a stopped process ends too."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def stop(self, within: float = 15) -> int:
        """SIGTERM; return the exit code."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(within)
        self.process = None
        return code


class Shared(NamedTuple):
    """A cluster whose nodes share an etcd: how many greyds, and how many members its engine has.

    ``quota_bytes`` is the engine's, ``greyd`` the command that the nodes are, if another.
    """

    greyds: int = 3
    members: int = 3
    quota_bytes: int = QUOTA_BYTES
    greyd: Sequence[str] | None = None
    etcd_options: Mapping[str, str] | None = None


class RunningFederation:
    """Three clusters (or the given ones); the first is the primary of the file.

    ``nodes`` has the first node of each cluster by the cluster's name, ``clusters`` all of them; ``engines``
    the shared engines. Only the nodes of clusters that vote reach the federation store; the others go through
    the control plane.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clusters: Sequence[str] = ("aws-east", "gcp-west", "edge-chicago"),
        shared: Mapping[str, Shared] | None = None,
        detection_time: str = "2s",
        interval: str = "100ms",
        api_tls: str = "mutual",
    ) -> None:
        self.folder = folder
        self.etcd = EtcdCluster(folder / "etcd", 3)
        self.authority = Authority("test federation")
        self.api, self.control, self.metrics = free_ports(3)
        self.scheme = "http" if api_tls == "off" else "https"
        # A network of its own for each federation, so that runs side by side do not meet.
        network = f"127.{random.randint(100, 250)}.{random.randint(1, 250)}"
        self.engines: dict[str, EngineCluster] = {}
        self.clusters = {
            cluster: self._make_nodes(cluster, f"{network}.{10 * number}", (shared or {}).get(cluster))
            for number, cluster in enumerate(clusters, start=1)
        }
        self.nodes = {cluster: nodes[0] for cluster, nodes in self.clusters.items()}
        self.primary = self.nodes[clusters[0]]
        self.names = {nodes[0].host: [node.address for node in nodes] for nodes in self.clusters.values()}
        self.operator = self.authority.issue(folder / "operator", "operator")
        self.file = folder / "federation.yaml"
        self._write_federation(detection_time, interval, api_tls)
        loaded = load(self.file)
        self.voters = {cluster.name for cluster in loaded.clusters if cluster.voter}
        for node in self.all_nodes():
            self._write_node(node)
        self._http: aiohttp.ClientSession | None = None

    def all_nodes(self) -> list[GreyNode]:
        """Return every node of every cluster."""
        return [node for nodes in self.clusters.values() for node in nodes]

    def _make_nodes(self, cluster: str, base: str, shared: Shared | None) -> list[GreyNode]:
        host = f"grey-{cluster}.example.test"
        if shared is None:
            return [GreyNode(self.folder / cluster, cluster, base, host)]
        engine = self.engines[cluster] = EngineCluster(
            shared.members, quota_bytes=shared.quota_bytes, etcd_options=shared.etcd_options
        )
        network, last = base.rsplit(".", 1)
        return [
            GreyNode(
                self.folder / f"{cluster}-{number}",
                cluster,
                f"{network}.{int(last) + number}",
                host,
                number=number,
                engine=engine.members[(number - 1) % shared.members],
                greyd=shared.greyd,
            )
            for number in range(1, shared.greyds + 1)
        ]

    def add_node(self, cluster: str) -> GreyNode:
        """Return one more node of a cluster with a shared engine; it and its member do not run yet."""
        nodes = self.clusters[cluster]
        network, last = nodes[-1].address.rsplit(".", 1)
        number = len(nodes) + 1
        node = GreyNode(
            self.folder / f"{cluster}-{number}",
            cluster,
            f"{network}.{int(last) + 1}",
            nodes[0].host,
            number=number,
            engine=self.engines[cluster].joiner(),
        )
        nodes.append(node)
        self._write_node(node)
        return node

    def drop_node(self, node: GreyNode) -> None:
        """End a node and its member, and know them no more."""
        node.kill()
        self.clusters[node.cluster].remove(node)
        if node.engine is not None:
            node.engine.kill()
            self.engines[node.cluster].members.remove(node.engine)

    def _write_federation(self, detection_time: str, interval: str, api_tls: str) -> None:
        first = next(iter(self.nodes))
        document = {
            "federation": {
                "name": "test",
                "domain": DOMAIN,
                "control_plane": {"endpoint": f"federation.{DOMAIN}:{self.control}"},
                "clusters": [
                    {
                        "name": node.cluster,
                        "endpoint": f"{node.host}:{self.api}",
                        "region": f"region-{node.cluster}",
                        "role": "primary" if node.cluster == first else "replica",
                        **({"capabilities": ["read-only", "cache"]} if "edge" in node.cluster else {}),
                    }
                    for node in self.nodes.values()
                ],
                "replication": {"mode": "async", "batch_size": 1000, "interval": interval},
                "failover": {
                    "auto_failover": len(self.nodes) > 2,
                    "detection_time": detection_time,
                    "promotion_timeout": "10s",
                    "min_insync_replicas": min(1, len(self.nodes) - 1),
                },
            },
            "security": {"api": {"tls": api_tls}},
        }
        self.file.write_text(json.dumps(document))  # JSON is YAML

    def _write_node(self, node: GreyNode) -> None:
        node.folder.mkdir(parents=True, exist_ok=True)
        self.issue(node)
        tls = {key: str(node.folder / f"{key[:-5]}.pem") for key in ("cert_file", "key_file", "ca_file")}
        store_tls = self.etcd.client_tls
        document: dict[str, Any] = {
            "node": {
                "mode": "cluster",
                "name": node.name,
                "cluster": node.cluster,
                "federation_file": str(self.file),
                "identity_file": str(node.identity),
                "data_dir": str(node.data_dir),
                "store": {"engine": "sqlite"} if node.engine is None else node.engine.store_section(),
                "listen": {
                    "address": node.address,
                    "api": self.api,
                    "control": self.control,
                    "metrics": self.metrics,
                },
                "tls": tls,
                "names": self.names,
            }
        }
        if node.cluster in self.voters:
            document["node"]["federation_store"] = {
                "endpoints": self.etcd.endpoints,
                "tls": {
                    "cert_file": store_tls.cert_file,
                    "key_file": store_tls.key_file,
                    "ca_file": store_tls.ca_file,
                },
            }
        node.config.write_text(json.dumps(document))

    def issue(self, node: GreyNode, *, expired: bool = False, authority: Authority | None = None) -> None:
        """Give a node a (new) certificate; that of another authority is foreign to the others."""
        (authority or self.authority).issue(
            node.folder,
            node.cluster,
            dns=(f"{node.cluster}.{DOMAIN}", node.host),
            addresses=(),
            expired=expired,
            bundle=self.authority.pem,
        )

    async def start(self) -> None:
        """Start the federation store and all nodes; return when the primary writes and the others follow."""
        self.etcd.start()
        for engine in self.engines.values():
            engine.start()
        await asyncio.gather(*(engine.healthy() for engine in self.engines.values()))
        await asyncio.gather(*(asyncio.to_thread(node.init) for node in self.all_nodes()))
        await self.etcd.healthy()
        for node in self.all_nodes():
            node.start()
        await self.ready()

    async def ready(self, within: float = 20) -> None:
        """Wait until all nodes of the primary may write and all others are replicas with a known lag."""
        for node in self.all_nodes():
            page = "/primary" if node.cluster == self.primary.cluster else "/replica?lag=5s"
            await self.until(
                lambda node=node, page=page: self._is_ok(node, page), within, f"{node.name} {page}"
            )

    async def _is_ok(self, node: GreyNode, page: str) -> bool:
        return (await self.health(node, page)).status == 200

    async def health(self, node: GreyNode, page: str) -> Answer:
        """Ask port 9090."""
        return await self._request("GET", f"http://{node.address}:{self.metrics}{page}")

    async def status(self, node: GreyNode) -> Answer:
        """Ask for the status document as the operator."""
        return await self.control_request(node, "/v1/federation/status")

    async def control_request(self, node: GreyNode, path: str) -> Answer:
        """Ask the control plane as the operator."""
        url = f"https://{node.address}:{self.control}{path}"
        return await self._request("GET", url, server_hostname=node.host)

    async def kv(self, method: str, node: GreyNode, key: bytes, *, query: str = "", **options: Any) -> Answer:
        """Send one request about one key to a node."""
        return await self.api_request(method, node, f"/v1/kv/{encoded(key)}{query}", **options)

    async def api_request(self, method: str, node: GreyNode, path: str, **options: Any) -> Answer:
        """Send a request to port 8080; ``path`` is percent-encoded."""
        url = f"{self.scheme}://{node.address}:{self.api}{path}"
        return await self._request(method, url, server_hostname=node.host, **options)

    async def _request(self, method: str, url: str, **options: Any) -> Answer:
        async with self.http().request(method, URL(url, encoded=True), **options) as response:
            return Answer(response.status, await response.read(), response.headers)

    def http(self) -> aiohttp.ClientSession:
        """Return the operator's session."""
        if self._http is None:
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    ssl=client_context(self.operator), resolver=NamesResolver(self.names), limit=0
                ),
                timeout=aiohttp.ClientTimeout(total=10, sock_connect=3),
            )
        return self._http

    @staticmethod
    async def until(holds: Callable[[], Awaitable[bool]], within: float, what: str) -> None:
        """Wait until a condition holds; connections that fail count as "not yet"."""
        try:
            async with asyncio.timeout(within):
                while True:
                    try:
                        if await holds():
                            return
                    except (aiohttp.ClientError, OSError):
                        await asyncio.sleep(0)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"not within {within:g} s: {what}") from None

    async def close(self) -> None:
        """End everything that was started."""
        if self._http is not None:
            await self._http.close()
        for node in self.all_nodes():
            node.kill()
        for engine in self.engines.values():
            engine.stop()
        self.etcd.stop()

    async def leader(self, cluster: str, within: float = 15) -> GreyNode:
        """Return the node that leads a cluster, as soon as exactly one says so."""
        found: list[GreyNode] = []

        async def one() -> bool:
            found[:] = [node for node in self.clusters[cluster] if await self._leads(node)]
            return len(found) == 1

        await self.until(one, within, f"one leader of {cluster}")
        return found[0]

    async def _leads(self, node: GreyNode) -> bool:
        try:
            answer = await self._request(
                "GET",
                f"http://{node.address}:{self.metrics}/metrics",
                timeout=aiohttp.ClientTimeout(total=1),
            )
        except (aiohttp.ClientError, OSError):  # dead or frozen
            return False
        return b"\ngrey_leader 1.0\n" in answer.body

    def logs(self) -> str:
        """Return the end of every node's log."""
        return "\n".join(
            f"--- {node.name}\n" + "\n".join(node.log.read_text().splitlines()[-30:])
            for node in self.all_nodes()
            if node.log.exists()
        )


@asynccontextmanager
async def running_federation(folder: Path, **options: Any) -> AsyncIterator[RunningFederation]:
    """A federation that runs inside the context; its logs are printed when something fails there."""
    federation = RunningFederation(folder, **options)
    try:
        await federation.start()
        yield federation
    except BaseException:
        print(federation.logs())  # noqa: T201 - what a failed test needs
        raise
    finally:
        await federation.close()


def encoded(key: bytes) -> str:
    """Return a key as one path segment, every byte of it percent-encoded that may be."""
    return quote(key, safe="").replace(".", "%2E")
