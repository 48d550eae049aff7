# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which groups, hosts and variables a federation makes in an inventory. Pure."""

from __future__ import annotations

import difflib
import ipaddress
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible_collections.grey.distributed.plugins.module_utils._federation_facts import CAPABILITIES, ROLES
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError

if TYPE_CHECKING:
    from ansible_collections.grey.distributed.plugins.module_utils._control_plane import Live
    from ansible_collections.grey.distributed.plugins.module_utils._federation_facts import Cluster, Facts

ALL = "grey"
"""The group of all clusters, which the playbooks deploy to."""
SOURCES = ("live", "cache", "file")
"""Where a role is from: asked now, asked earlier, or the federation file."""


@dataclass
class Group:
    """A group of the inventory: its variables, and the groups below it."""

    variables: dict[str, Any] = field(default_factory=dict)
    children: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Host:
    """A host of the source file, in the group of its cluster, or of the witness that it is."""

    name: str
    cluster: str
    variables: Mapping[str, Any]


def hosts(found: Any, facts: Facts) -> list[Host]:
    """Read the source file's ``hosts``: cluster, host, then an address or a mapping of variables.

    Fails with a line per fault.
    """
    if not isinstance(found, Mapping):
        raise GreyError(f"hosts: wanted a mapping of clusters, found {found!r}")
    faults: list[str] = []
    placed: list[Host] = []
    known = list(facts.homes)
    for cluster, entries in found.items():
        if cluster not in known:
            near = difflib.get_close_matches(str(cluster), known, n=1)
            hint = f"; the nearest is {near[0]}" if near else ""
            faults.append(
                f"hosts.{cluster}: wanted a cluster or witness of the federation {facts.name} "
                f"({', '.join(known)}), found none of that name{hint}"
            )
        elif not isinstance(entries, Mapping):
            faults.append(
                f"hosts.{cluster}: wanted a mapping of hosts, each with its address or variables, "
                f"found {entries!r}"
            )
        else:
            for name, entry in entries.items():
                placed.append(Host(str(name), str(cluster), _variables(cluster, name, entry, faults)))
    faults += _doubled(placed)
    if faults:
        raise GreyError("the inventory's source file is wrong\n" + "\n".join(faults))
    return placed


def groups(facts: Facts, live: Live | None, *, source: str, federation_file: str) -> dict[str, Group]:
    """Return all groups. ``source`` is one of SOURCES; ``live`` is None when it is ``file``."""
    made: dict[str, Group] = {
        ALL: Group({"grey_federation_name": facts.name, "grey_federation_file": federation_file})
    }
    for name in (*(f"role_{role}" for role in ROLES), *(f"role_source_{word}" for word in SOURCES)):
        made[name] = Group()
    for word in CAPABILITIES:
        made[_group("capability", word)] = Group()
    for cluster in facts.clusters:
        variables = _cluster_variables(cluster, live, source)
        made[cluster.group] = Group(variables)
        parents = [ALL, f"role_{variables['grey_role']}", f"role_source_{source}"]
        parents += [_group("region", cluster.region)]
        parents += [_group("capability", word) for word in cluster.capabilities]
        for parent in parents:
            made.setdefault(parent, Group()).children.append(cluster.group)
    for name in facts.witnesses:
        made[facts.homes[name]] = Group()
        made[ALL].children.append(facts.homes[name])
    return made


def _cluster_variables(cluster: Cluster, live: Live | None, source: str) -> dict[str, Any]:
    status, online = live.clusters.get(cluster.name, ("unknown", False)) if live else (None, None)
    role = cluster.role
    if live:
        # The role record says who is the primary, also while that cluster is offline.
        role = "primary" if live.primary == cluster.name else "replica"
    return {
        "grey_cluster": cluster.name,
        "grey_cluster_region": cluster.region,
        "grey_cluster_weight": cluster.weight,
        "grey_cluster_capabilities": list(cluster.capabilities),
        "grey_cluster_endpoint": cluster.endpoint,
        "grey_role": role,
        "grey_role_source": source,
        "grey_role_as_of": _instant(live.asked_at) if live else None,
        "grey_epoch": live.epoch if live else None,
        "grey_status": status,
        "grey_online": online,
    }


def _variables(cluster: Any, name: Any, entry: Any, faults: list[str]) -> dict[str, Any]:
    where = f"hosts.{cluster}.{name}"
    if entry is None:
        return {}
    variables = dict(entry) if isinstance(entry, Mapping) else {"grey_address": entry}
    address = variables.get("grey_address")
    if address is None:
        return variables
    if not isinstance(address, str) or not ("{{" in address or _is_address(address)):
        faults.append(
            f"{where}: wanted an IP address, or variables with one in grey_address, found {address!r}"
        )
        return {}
    # Where ssh goes, unless the entry says otherwise.
    return {"ansible_host": address, **variables}


def _doubled(placed: list[Host]) -> list[str]:
    faults = []
    homes: dict[str, str] = {}
    owners: dict[str, str] = {}
    for host in placed:
        if homes.setdefault(host.name, host.cluster) != host.cluster:
            faults.append(
                f"hosts.{host.cluster}.{host.name}: wanted the host in one cluster, found it in "
                f"{homes[host.name]}, too; remove it from one"
            )
            continue
        address = host.variables.get("grey_address")
        if address is not None and owners.setdefault(str(address), host.name) != host.name:
            faults.append(
                f"hosts.{host.cluster}.{host.name}: wanted an address of its own, found {address}, which "
                f"{owners[str(address)]} has"
            )
    return faults


def _group(kind: str, word: str) -> str:
    return f"{kind}_" + re.sub(r"[^A-Za-z0-9]", "_", word)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _instant(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
