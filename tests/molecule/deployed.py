# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A federation on a fleet, as its operator sees it: grey-ctl, the client library, and the hosts."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from grey.client import Client, GreyError

from hosts import BIN, Fleet, wait_for

PROBE = (Path(__file__).parent / "probe.py").read_text(encoding="utf-8")
CONFIG = "/etc/grey/grey.yaml"
GREYD = "/opt/grey/current/bin/greyd"
CERTIFICATE = ("/etc/grey/federation-cert.pem", "/etc/grey/federation-key.pem")
API, CONTROL, METRICS, STORE_CLIENT, STORE_PEER, ENGINE_PEER = 8080, 8443, 9090, 2379, 2380, 2390

Question = tuple[str, str, int]  # who asks, whom, at which port


class Federation:
    """What ``deploy.yml`` made on the hosts of a fleet."""

    name = "global-grey"

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.controller = fleet.home / "controller"
        self.clusters = list(dict.fromkeys(host.rpartition("-")[0] for host in fleet))

    def grey_ctl(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run grey-ctl on the controller; warnings are in ``stderr``."""
        done = subprocess.run(
            [str(BIN / "grey-ctl"), *words], check=False, capture_output=True, text=True, timeout=120,
            env={**os.environ, "GREY_CTL_CONFIG": str(self.controller / "ctl.yaml")},
        )  # fmt: skip
        assert not check or done.returncode == 0, (
            f"grey-ctl {words}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done

    def status(self) -> dict[str, Any]:
        """Return the status document."""
        words = ("federation", "status", "--federation", self.name, "-o", "json")
        document: dict[str, Any] = json.loads(self.grey_ctl(*words).stdout)
        return document

    def roles(self) -> dict[str, str]:
        """Return each cluster's status."""
        return {cluster["name"]: cluster["status"] for cluster in self.status()["clusters"]}

    def await_whole(self, limit_seconds: float = 120.0) -> None:
        """Wait until every cluster is online and every member of every engine follows a leader."""

        def whole() -> bool:
            try:
                return all(cluster["online"] for cluster in self.status()["clusters"]) and all(
                    self.members(host, group)["healthy"] for host in self.fleet for group in self.groups(host)
                )
            except (AssertionError, KeyError, ValueError):
                return False

        wait_for(whole, "every cluster and every member to be well", limit_seconds)

    def groups(self, host: str) -> list[str]:
        """Return the etcd groups that a host has a member of, by greyd's names for them."""
        cluster = host.rpartition("-")[0]
        hosts = self.fleet.cluster(cluster)
        return [*(["engine"] if len(hosts) > 1 else []), *(["federation-store"] if host == hosts[0] else [])]

    def members(self, host: str, group: str) -> dict[str, Any]:
        """Return what a member says of its group: ``{"members": [...], "healthy": bool}``."""
        said = self.fleet[host].check_output(f"sudo -u grey {GREYD} {group} members --config {CONFIG}")
        document: dict[str, Any] = json.loads(said)
        return document

    def probe(self, questions: Iterable[Question], *words: str) -> dict[Question, str]:
        """Ask ports of hosts from others; ``words`` as in probe.py, which says what comes of each."""
        asked: dict[str, list[Question]] = {}
        for question in questions:
            asked.setdefault(question[0], []).append(question)

        def ask(source: str) -> list[str]:
            wanted = [[self.fleet.address(target), port, *words] for _, target, port in asked[source]]
            command = shlex.join(["python3", "-c", PROBE, json.dumps(wanted)])
            answers: list[str] = json.loads(self.fleet[source].check_output(command))
            return answers

        with ThreadPoolExecutor(max_workers=len(asked) or 1) as pool:
            said = dict(zip(asked, pool.map(ask, asked), strict=True))
        return {
            question: answer
            for source in asked
            for question, answer in zip(asked[source], said[source], strict=True)
        }

    def client(self, **options: Any) -> Client:
        """Return the client library with the operator's certificate. Close it."""
        return Client.from_config(self.controller / "ctl.yaml", **options)

    @contextmanager
    def under_load(self, prefix: str) -> Iterator[Writer]:
        """Write to the primary all the while, by a client that retries as applications do."""
        with self.client() as client:
            writer = Writer(client, prefix)
            with writer:
                wait_for(lambda: writer.acknowledged, "the first write under load")
                yield writer

    def keys(self, cluster: str, prefix: str) -> set[str]:
        """Return the keys with a prefix that a cluster has now."""
        with self.client() as client:
            return {item.key.decode() for item in client.list(prefix, cluster=cluster)}


class Writer:
    """Writes one key after the other; remembers what was acknowledged, what failed, the longest pause."""

    def __init__(self, client: Client, prefix: str) -> None:
        self.prefix = prefix
        self.acknowledged: list[str] = []
        self.failed: list[str] = []
        self.longest_pause = 0.0
        self._client = client
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def await_more(self, count: int = 20, limit_seconds: float = 60.0) -> None:
        """Wait until some more writes were acknowledged."""
        wanted = len(self.acknowledged) + count
        wait_for(lambda: len(self.acknowledged) >= wanted, f"{count} more acknowledged writes", limit_seconds)

    def _run(self) -> None:
        number, last = 0, time.monotonic()
        while not self._end.is_set():
            number += 1
            key = f"{self.prefix}{number}"
            try:
                self._client.put(key, str(number).encode(), timeout_seconds=60)
            except GreyError as error:
                self.failed.append(f"{key}: {error}")
                continue
            now = time.monotonic()
            self.longest_pause = max(self.longest_pause, now - last)
            last = now
            self.acknowledged.append(key)
