# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long playbooks take on hosts with systemd: fleets of 7, 14 and 28 containers, ``forks`` as many.

Needs what ``make molecule`` needs. A run's time is what ansible-playbook takes, by SSH, as operators do it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from xml.etree import ElementTree

from _report import Goal, Section, Table
from _turns import calm

if TYPE_CHECKING:
    from _turns import Pace

_ROOT = Path(__file__).resolve().parents[2]
_HOMES = _ROOT / ".cache" / "fleet"
_SIZES = (7, 14, 28)
_LIMIT_SECONDS = 1800
# The document's federation; more of the same are replicas without a vote.
_CLUSTERS = {"aws-east": 3, "gcp-west": 3, "edge-chicago": 1}
_SPARE = "aws-east-4"


@dataclass(frozen=True)
class Run:
    """One run of a playbook; ``tasks`` has the seconds of each, until its last host was done."""

    seconds: float
    changes: int
    tasks: dict[str, float]
    per_host: int


async def measure(pace: Pace) -> Section:
    """Deploy to fleets of several sizes, twice each; to the smallest one add a host."""
    busy = await calm(pace.patience_seconds)
    return await asyncio.to_thread(_measure, busy, _SIZES[:1] if pace.rounds == 1 else _SIZES)


def _measure(busy: str, sizes: tuple[int, ...]) -> Section:
    first: dict[int, Run] = {}
    second: dict[int, Run] = {}
    for size in sizes:
        with Fleet(size) as fleet:
            first[size], second[size] = fleet.play("deploy"), fleet.play("deploy")
            if size == sizes[0]:
                fleet.grow()
                added = fleet.play("scale")
    smallest = sizes[0]
    growth = Table(
        ["hosts", "clusters", "first deploy.yml", "second", "changes", "seconds per host"],
        [
            [
                str(size),
                str(3 * size // 7),
                f"{first[size].seconds:.0f} s",
                f"{second[size].seconds:.0f} s",
                str(second[size].changes),
                f"{second[size].seconds / size:.1f}",
            ]
            for size in sizes
        ],
    )
    counts = Table(
        ["run on 7 hosts", "seconds", "tasks that ran on a host, at most"],
        [
            ["`deploy.yml`, first", f"{first[smallest].seconds:.0f}", str(first[smallest].per_host)],
            ["`deploy.yml`, second", f"{second[smallest].seconds:.0f}", str(second[smallest].per_host)],
            ["`scale.yml`, one host joins aws-east", f"{added.seconds:.0f}", str(added.per_host)],
        ],
    )
    slowest = [_slowest("first", first[smallest]), _slowest("second", second[smallest])]
    goals = [
        Goal("first `deploy.yml`, 7 hosts", 240, first[smallest].seconds, "s", most=True),
        Goal("second `deploy.yml`, 7 hosts", 60, second[smallest].seconds, "s", most=True),
        Goal("changes of the second", 0, second[smallest].changes, "changes", most=True),
        Goal("one host joins a cluster", 60, added.seconds, "s", most=True),
    ]
    return Section("fleet", [growth, counts, *slowest], busy, goals)


def _slowest(name: str, run: Run) -> Table:
    tasks = sorted(run.tasks.items(), key=lambda item: -item[1])[:10]
    rows = [[task, f"{spent:.1f}"] for task, spent in tasks]
    return Table([f"slowest tasks of the {name} run on 7 hosts", "seconds"], rows)


class Fleet:
    """Hosts in containers, with an inventory; one host of aws-east more than are deployed to at first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._name = f"bench-{size}"
        self._home = _HOMES / self._name
        self._folder = tempfile.TemporaryDirectory(prefix="grey-fleet-")
        self._inventory = Path(self._folder.name) / "i"
        self._inventory.mkdir()
        self._hosts: dict[str, list[str]] = {}
        for each in range(size // sum(_CLUSTERS.values())):
            for name, count in _CLUSTERS.items():
                cluster = name if each == 0 else f"{name.split('-')[0]}-{each + 1}"
                self._hosts[cluster] = [f"{cluster}-{number + 1}" for number in range(count)]
        self._addresses: dict[str, dict[str, str]] = {}

    def __enter__(self) -> Self:
        self._tool("reserve")
        block = 16 * int((self._home / "block").read_text(encoding="utf-8"))
        networks = {"interconnect": f"172.30.{block}.0/24"}
        spare = {"aws-east": [_SPARE]}
        for number, cluster in enumerate(self._hosts):
            networks[cluster] = f"172.30.{block + 1 + number}.0/24"
            for place, host in enumerate([*self._hosts[cluster], *spare.get(cluster, [])]):
                last = 10 * (number + 1) + place + 1
                self._addresses[host] = {
                    name: networks[name].replace("0/24", str(last)) for name in ("interconnect", cluster)
                }
        self._tool("up", {"networks": networks, "hosts": self._addresses, "names": self._names()})
        self._write()
        return self

    def __exit__(self, *_: object) -> None:
        self._tool("down")
        self._folder.cleanup()

    def grow(self) -> None:
        """Put one more host of aws-east into the inventory."""
        self._hosts["aws-east"].append(_SPARE)
        self._write()

    def play(self, playbook: str) -> Run:
        """Run a playbook. Raises RuntimeError when it fails."""
        with tempfile.TemporaryDirectory(dir=self._folder.name) as reports:
            command = ["ansible-playbook", f"playbooks/{playbook}.yml", "-i", str(self._inventory)]
            started = time.monotonic()
            done = subprocess.run(  # noqa: S603
                [f"{sys.prefix}/bin/{command[0]}", *command[1:], "-f", str(self._size)],
                cwd=_ROOT,
                env={
                    **os.environ,
                    "ANSIBLE_CONFIG": str(_ROOT / "ansible.cfg"),
                    "ANSIBLE_CALLBACKS_ENABLED": "ansible.builtin.junit",
                    "JUNIT_OUTPUT_DIR": reports,
                },
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_LIMIT_SECONDS,
                check=False,
            )
            spent = time.monotonic() - started
            if done.returncode != 0:
                raise RuntimeError(
                    f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}"
                )
            (report,) = Path(reports).glob("*.xml")
            tasks = _tasks(report)
        ran = [int(count) for count in re.findall(r" : ok=(\d+)", done.stdout)]
        return Run(spent, sum(map(int, re.findall(r"\bchanged=(\d+)", done.stdout))), tasks, max(ran))

    def _names(self) -> dict[str, list[str]]:
        found = {
            f"{cluster}.example.com": [self._addresses[host]["interconnect"] for host in hosts]
            for cluster, hosts in self._hosts.items()
        }
        return found | {"federation.grey.internal": [one for known in found.values() for one in known]}

    def _write(self) -> None:
        groups: dict[str, Any] = {
            f"cluster_{cluster.replace('-', '_')}": {
                "hosts": {host: {"ansible_host": self._addresses[host]["interconnect"]} for host in hosts}
            }
            for cluster, hosts in self._hosts.items()
        }
        variables = {
            "ansible_become": True,
            "ansible_user": "admin",
            "ansible_ssh_private_key_file": str(self._home / "key"),
            "ansible_ssh_common_args": (
                "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "
                "-o IdentitiesOnly=yes"
            ),
            "ansible_python_interpreter": "/usr/bin/python3",
            "grey_address": "{{ ansible_host }}",
            "grey_controller_names": self._names(),
            "grey_controller_dir": str(self._inventory.parent / "controller"),
            "grey_cache_dir": str(_ROOT / ".cache" / "deploy"),
        }
        hosts = {"all": {"children": {"grey": {"vars": variables, "children": groups}}}}
        (self._inventory / "hosts.json").write_text(json.dumps(hosts), encoding="utf-8")
        (self._inventory / "federation.yaml").write_text(json.dumps(self._file()), encoding="utf-8")

    def _file(self) -> dict[str, Any]:
        clusters = [
            {
                "name": name,
                "endpoint": f"{name}.example.com:8080",
                "region": name,
                "role": "primary" if name == "aws-east" else "replica",
                "weight": 100 if name == "aws-east" else 50,
                **({"capabilities": ["read-only", "cache"]} if name not in ("aws-east", "gcp-west") else {}),
            }
            for name in self._hosts
        ]
        tls = {f"{part}_file": f"/etc/grey/federation-{part}.pem" for part in ("cert", "key", "ca")}
        return {
            "federation": {
                "name": "global-grey",
                "control_plane": {"endpoint": "federation.grey.internal:8443", "tls": tls},
                "clusters": clusters,
                "replication": {"mode": "async", "interval": "100ms"},
                "failover": {"auto_failover": True, "detection_time": "30s", "min_insync_replicas": 1},
            }
        }

    def _tool(self, action: str, wanted: object = None) -> None:
        given = "" if wanted is None else json.dumps(wanted)
        done = subprocess.run(  # noqa: S603
            [sys.executable, str(_ROOT / "tools" / "fleet.py"), action, self._name],
            input=given, capture_output=True, text=True, check=False, timeout=_LIMIT_SECONDS,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"fleet.py {action}: {done.stdout}{done.stderr}")


def _tasks(report: Path) -> dict[str, float]:
    """Return the seconds of each task: of its slowest host, once per time that it ran."""
    found: dict[str, float] = defaultdict(float)
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - our own file
        name = re.sub(r"^\[[^]]*\] ", "", case.get("name", "")).rpartition(": ")[2]
        found[name] = max(found[name], float(case.get("time", "0")))
    return dict(found)
