# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an inventory needs of a federation file, with grey-ctl's answer or without grey-ctl.

Without grey-ctl only these keys are checked; ``deploy.yml`` checks all of the file before it touches a host.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError
from ansible_collections.grey.distributed.plugins.module_utils._placement import (
    group_name,
    witness_group_name,
)

ROLES = ("primary", "replica")
CAPABILITIES = ("read-only", "cache")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_NAME_WISH = "1 to 63 characters a-z, 0-9 and -, neither first nor last a -"
_DEFAULT_WEIGHT = 100
_MOST_WEIGHT = 1000


@dataclass(frozen=True)
class Cluster:
    """A cluster of the file; ``role`` is the one for its first start."""

    name: str
    host: str
    port: int
    region: str
    role: str
    weight: int
    capabilities: tuple[str, ...]
    identity: str

    @property
    def group(self) -> str:
        """The inventory group of its hosts."""
        return group_name(self.name)

    @property
    def endpoint(self) -> str:
        """HOST:PORT of its key-value API."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


@dataclass(frozen=True)
class Facts:
    """A federation; the control plane answers at ``control_host`` and on every node at ``control_port``.

    ``witnesses`` are the names of those.
    """

    name: str
    control_host: str
    control_port: int
    clusters: tuple[Cluster, ...]
    witnesses: tuple[str, ...] = ()

    @property
    def homes(self) -> dict[str, str]:
        """The inventory group of each cluster and of each witness, by its name."""
        return {
            **{cluster.name: cluster.group for cluster in self.clusters},
            **{name: witness_group_name(name) for name in self.witnesses},
        }


def from_checked(federation: Mapping[str, Any]) -> Facts:
    """Read what ``grey-ctl config show -o json`` printed."""
    control = federation["control_plane"]["endpoint"]
    return Facts(
        name=federation["name"],
        control_host=control["host"],
        control_port=control["port"],
        clusters=tuple(
            Cluster(
                name=each["name"],
                host=each["endpoint"]["host"],
                port=each["endpoint"]["port"],
                region=each["region"],
                role=each["role"],
                weight=each["weight"],
                capabilities=tuple(each["capabilities"]),
                identity=each["identity"],
            )
            for each in federation["clusters"]
        ),
        witnesses=tuple(each["name"] for each in federation["witnesses"]),
    )


def from_plain(document: Any, path: str) -> Facts:
    """Read a federation file as YAML gave it. Fails with a line per fault: PATH: KEY: wanted, found."""
    return _Reader(path).facts(document)


class _Reader:
    def __init__(self, path: str) -> None:
        self._path = path
        self._faults: list[str] = []

    def facts(self, document: Any) -> Facts:
        top = self._mapping(document, "", "a mapping with the key federation")
        federation = self._mapping(top.get("federation"), "federation", "a mapping with the federation")
        self._require_right()
        name = self._name(federation.get("name"), "federation.name")
        plane = self._mapping(
            federation.get("control_plane"), "federation.control_plane", "a mapping with the endpoint"
        )
        host, port = self._endpoint(plane.get("endpoint"), "federation.control_plane.endpoint")
        domain = self._domain(federation.get("domain"), host)
        clusters = self._clusters(federation.get("clusters"), domain)
        witnesses = self._witnesses(federation.get("witnesses", []))
        self._require_right()
        return Facts(name, host, port, tuple(clusters), tuple(witnesses))

    def _require_right(self) -> None:
        if self._faults:
            raise GreyError("the federation file is wrong\n" + "\n".join(self._faults))

    def _clusters(self, found: Any, domain: str) -> list[Cluster]:
        key = "federation.clusters"
        if not _is_list(found) or not found:
            self._fault(key, "a list of clusters", found)
            return []
        clusters = [self._cluster(each, f"{key}[{index}]", domain) for index, each in enumerate(found)]
        groups: dict[str, str] = {}
        for index, cluster in enumerate(clusters):
            other = groups.setdefault(cluster.group, cluster.name)
            if cluster.name and index != [each.group for each in clusters].index(cluster.group):
                self._fault(
                    f"{key}[{index}].name", f"another name (and inventory group) than {other}", cluster.name
                )
        if not any(cluster.role == "primary" for cluster in clusters):
            self._fault(key, "a cluster with role: primary", "only replicas")
        return clusters

    def _witnesses(self, found: Any) -> list[str]:
        key = "federation.witnesses"
        if not _is_list(found):
            self._fault(key, "a list of witnesses", found)
            return []
        entries = [
            self._mapping(each, f"{key}[{index}]", "a mapping with name and endpoint")
            for index, each in enumerate(found)
        ]
        return [self._name(each.get("name"), f"{key}[{index}].name") for index, each in enumerate(entries)]

    def _cluster(self, found: Any, key: str, domain: str) -> Cluster:
        entry = self._mapping(found, key, "a mapping with name, endpoint and role")
        name = self._name(entry.get("name"), f"{key}.name")
        host, port = self._endpoint(entry.get("endpoint"), f"{key}.endpoint")
        capabilities = entry.get("capabilities", [])
        if not _is_list(capabilities) or not all(each in CAPABILITIES for each in capabilities):
            self._fault(f"{key}.capabilities", f"a list of {' and '.join(CAPABILITIES)}", capabilities)
            capabilities = []
        role = entry.get("role")
        if role not in ROLES:
            self._fault(f"{key}.role", " or ".join(ROLES), role)
        weight = entry.get("weight", _DEFAULT_WEIGHT)
        if isinstance(weight, bool) or not isinstance(weight, int) or not 0 <= weight <= _MOST_WEIGHT:
            self._fault(f"{key}.weight", f"a whole number from 0 to {_MOST_WEIGHT}", weight)
        region = entry.get("region", name)
        if not isinstance(region, str) or not region:
            self._fault(f"{key}.region", "text", region)
        return Cluster(
            name=name,
            host=host,
            port=port,
            region=str(region),
            role=str(role),
            weight=weight if isinstance(weight, int) else 0,
            capabilities=tuple(str(each) for each in capabilities),
            identity=f"{name}.{domain}",
        )

    def _domain(self, found: Any, control_host: str) -> str:
        domain = control_host.partition(".")[2] if found is None else found
        if not isinstance(domain, str) or not domain:
            where = "federation.domain"
            self._fault(where, "a DNS name (the control plane's host has none to take it from)", found)
            return ""
        return str(domain)

    def _name(self, found: Any, key: str) -> str:
        if isinstance(found, str) and _NAME.match(found):
            return str(found)
        self._fault(key, f"a name ({_NAME_WISH})", found)
        return ""

    def _endpoint(self, found: Any, key: str) -> tuple[str, int]:
        host, port = found.rpartition(":")[::2] if isinstance(found, str) else ("", "")
        bracketed = host.startswith("[") and host.endswith("]")
        bare = host[1:-1] if bracketed else host
        right = bool(bare) and (":" in bare) == bracketed and "/" not in bare and port.isascii()
        if not right or not port.isdigit() or not 1 <= int(port) <= 65535:
            self._fault(key, "HOST:PORT", found)
            return "", 0
        return bare, int(port)

    def _mapping(self, found: Any, key: str, wish: str) -> Mapping[str, Any]:
        if isinstance(found, Mapping):
            return found
        self._fault(key, wish, found)
        return {}

    def _fault(self, key: str, wish: str, found: Any) -> None:
        shown = "nothing" if found is None else repr(found if not isinstance(found, str) else str(found))
        self._faults.append(
            ": ".join(part for part in (self._path, key) if part) + f": wanted {wish}, found {shown[:200]}"
        )


def _is_list(found: Any) -> bool:
    return isinstance(found, Sequence) and not isinstance(found, (str, bytes))
