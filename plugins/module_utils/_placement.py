# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory's hosts in the clusters of the federation file: what each one runs and may have. Pure."""

from __future__ import annotations

import difflib
import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

FEDERATION_AUTHORITY = "federation"
STORE_AUTHORITY = "federation-store"
ENGINES = ("auto", "sqlite", "etcd")
ENGINE = "engine"
_GROUP_PREFIX = "cluster_"
_WITNESS_PREFIX = "witness_"

Engine = Literal["sqlite", "etcd"]


@dataclass(frozen=True)
class Inventory:
    """What the inventory says of the hosts; the whole of it counts, never the hosts of the play.

    ``groups`` are all groups, ``group`` the one of all hosts of the deployment. By host: ``addresses`` its
    own one, ``sources`` further ones that its connections come from, ``engines`` one of ENGINES.
    ``store_client_port`` is where members of the federation store answer greyds, ``store_port`` and
    ``engine_port`` where members of it and of an engine talk with each other, ``other_ports`` what else
    listens on every host, by its name. Hosts that are ``leaving`` count as gone; those that are ``replaced``
    stay, with new members.
    """

    groups: Mapping[str, Sequence[str]]
    addresses: Mapping[str, str]
    sources: Mapping[str, Sequence[str]]
    engines: Mapping[str, str]
    group: str
    store_client_port: int
    store_port: int
    engine_port: int
    other_ports: Mapping[str, int]
    leaving: Sequence[str] = ()
    replaced: Sequence[str] = ()

    def hosts(self, cluster: str) -> Sequence[str]:
        """Return the hosts of a cluster; the first one has the voter's member of the federation store."""
        return self.in_group(group_name(cluster))

    def in_group(self, group: str) -> list[str]:
        """Return the hosts of a group that stay."""
        return [host for host in self.groups.get(group, ()) if host not in self.leaving]


def group_name(cluster: str) -> str:
    """Return the inventory group of a cluster: aws-east has cluster_aws_east."""
    return _GROUP_PREFIX + _plain(cluster)


def witness_group_name(witness: str) -> str:
    """Return the inventory group of a witness, which has one host: witness-1 has witness_witness_1."""
    return _WITNESS_PREFIX + _plain(witness)


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", name)


def place(federation: Mapping[str, Any], inventory: Inventory) -> dict[str, Any]:
    """Return what every host is, the members of the federation store, and all groups of etcd members.

    Each group has an authority of its own beside that of the federation, so that what joins one joins no
    other. Fails with everything that is wrong.
    """
    clusters, witnesses = federation["clusters"], federation["witnesses"]
    faults = [
        *_group_faults(clusters, witnesses, inventory),
        *_host_faults(clusters, witnesses, inventory),
        *_engine_faults(clusters, inventory),
        *_port_faults(federation, inventory),
    ]
    if faults:
        raise GreyError(
            "the inventory does not fit the federation file; no host was touched\n" + "\n".join(faults),
            errors=faults,
        )
    hosts: dict[str, Any] = {}
    members: list[dict[str, Any]] = []
    for cluster in clusters:
        name = cluster["name"]
        engine = _engine(inventory, name)
        for index, host in enumerate(inventory.hosts(name)):
            member = bool(cluster["voter"]) and index == 0
            hosts[host] = _host(federation, cluster, inventory, host, engine, member=member)
            if member:
                members.append({"name": host, "cluster": name, "address": inventory.addresses[host]})
    for witness in witnesses:
        host = inventory.in_group(witness_group_name(witness["name"]))[0]
        hosts[host] = _witness(federation, inventory, host)
        members.append({"name": host, "cluster": None, "address": inventory.addresses[host]})
    groups = _raft_groups(federation, inventory, hosts)
    names = dict.fromkeys([FEDERATION_AUTHORITY, STORE_AUTHORITY, *(group["name"] for group in groups)])
    authorities = [{"name": name, "common_name": f"Grey {name.replace('-', ' ', 1)}"} for name in names]
    return {
        "hosts": hosts,
        "members": members,
        "groups": groups,
        "authorities": authorities,
        "departures": _departures(clusters, witnesses, inventory),
    }


def _departures(
    clusters: Sequence[Mapping[str, Any]], witnesses: Sequence[Mapping[str, Any]], inventory: Inventory
) -> list[dict[str, str]]:
    """Return the members that go: of hosts that leave, and of hosts that begin anew.

    A host may be named for a group that it is no member of; then nothing is there to be removed.
    """
    going = [*inventory.leaving, *inventory.replaced]
    store = (STORE_AUTHORITY, inventory.store_port)
    has: list[tuple[str, list[tuple[str, int]]]] = [
        (
            group_name(cluster["name"]),
            [
                (engine_authority(cluster["name"]), inventory.engine_port),
                *([store] if cluster["voter"] else []),
            ],
        )
        for cluster in clusters
    ]
    has += [(witness_group_name(witness["name"]), [store]) for witness in witnesses]
    return [
        {"host": host, "group": group, "peer": _at(inventory.addresses[host], port)}
        for hosts, groups in has
        for host in inventory.groups.get(hosts, ())
        if host in going
        for group, port in groups
    ]


def _raft_groups(
    federation: Mapping[str, Any], inventory: Inventory, hosts: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the federation store and the engines, with all members and where these talk with each other."""

    def group(name: str, token: str, members: Sequence[str], port: int) -> dict[str, Any]:
        peers = {host: _at(inventory.addresses[host], port) for host in members}
        return {"name": name, "token": token, "members": peers}

    store = [host for host, placed in hosts.items() if placed["member"]]
    found = [group(STORE_AUTHORITY, federation["name"], store, inventory.store_port)] if store else []
    for cluster in federation["clusters"]:
        name = cluster["name"]
        members = inventory.hosts(name)
        if hosts[members[0]]["engine"] == "etcd":
            token = f"{federation['name']}-{name}"
            found.append(group(engine_authority(name), token, members, inventory.engine_port))
    return found


def _host(
    federation: Mapping[str, Any],
    cluster: Mapping[str, Any],
    inventory: Inventory,
    host: str,
    engine: Engine,
    *,
    member: bool,
) -> dict[str, Any]:
    identity = f"{cluster['name']}.{federation['domain']}"
    dns, own_addresses = _split(
        [identity, cluster["endpoint"]["host"], federation["control_plane"]["endpoint"]["host"]]
    )
    # Members of a Raft group look at the address that a connection comes from.
    addresses = sorted({inventory.addresses[host], *inventory.sources.get(host, ())})
    certificates = [_certificate(FEDERATION_AUTHORITY, FEDERATION_AUTHORITY, identity, dns, own_addresses)]
    if cluster["voter"]:
        certificates.append(_store_certificate(federation, host, addresses, member=member))
    if engine == "etcd":
        authority = engine_authority(cluster["name"])
        certificates.append(_certificate(ENGINE, authority, host, [identity], addresses))
    return {
        "cluster": cluster["name"],
        "address": inventory.addresses[host],
        "identity": identity,
        "engine": engine,
        "engine_group": engine_authority(cluster["name"]) if engine == "etcd" else None,
        "voter": bool(cluster["voter"]),
        "member": member,
        "api_port": cluster["endpoint"]["port"],
        "control_port": federation["control_plane"]["endpoint"]["port"],
        "certificates": certificates,
    }


def _witness(federation: Mapping[str, Any], inventory: Inventory, host: str) -> dict[str, Any]:
    """Return what a host is that has a member of the federation store, and nothing else."""
    addresses = sorted({inventory.addresses[host], *inventory.sources.get(host, ())})
    return {
        "cluster": None,
        "address": inventory.addresses[host],
        "identity": None,
        "engine": None,
        "engine_group": None,
        "voter": True,
        "member": True,
        "api_port": None,
        "control_port": None,
        "certificates": [_store_certificate(federation, host, addresses, member=True)],
    }


def _store_certificate(
    federation: Mapping[str, Any], host: str, addresses: Sequence[str], *, member: bool
) -> dict[str, Any]:
    # Members demand the second name of each other: a greyd's certificate joins nothing.
    names = [host, *([f"{STORE_AUTHORITY}.{federation['domain']}"] if member else [])]
    return _certificate(STORE_AUTHORITY, STORE_AUTHORITY, host, names, addresses)


def engine_authority(cluster: str) -> str:
    """Return what the engine of a cluster and its own authority are called: what joins one joins no other."""
    return f"{ENGINE}-{cluster}"


def _certificate(
    name: str, authority: str, common_name: str, dns: Sequence[str], addresses: Sequence[str]
) -> dict[str, Any]:
    return {
        "name": name,
        "authority": authority,
        "common_name": common_name,
        "dns": list(dns),
        "addresses": list(addresses),
    }


def _engine(inventory: Inventory, cluster: str) -> Engine:
    hosts = inventory.hosts(cluster)
    chosen = inventory.engines.get(hosts[0], "auto")
    if chosen == "auto":
        return "etcd" if len(hosts) > 1 else "sqlite"
    return "etcd" if chosen == "etcd" else "sqlite"


def _group_faults(
    clusters: Sequence[Mapping[str, Any]], witnesses: Sequence[Mapping[str, Any]], inventory: Inventory
) -> Iterator[str]:
    wanted: dict[str, str] = {}
    for cluster in clusters:
        name = group_name(cluster["name"])
        if name in wanted:
            yield f"clusters {wanted[name]} and {cluster['name']}: both have the group {name}; rename one"
        wanted[name] = cluster["name"]
        if not inventory.in_group(name):
            yield f"cluster {cluster['name']}: wanted hosts in the group {name}, found none; add them"
    wanted |= {witness_group_name(witness["name"]): witness["name"] for witness in witnesses}
    yield from _witness_faults(witnesses, inventory)
    yield from _unknown_groups(wanted, inventory)
    if not inventory.in_group(inventory.group):
        yield (
            f"group {inventory.group}: wanted all hosts of the deployment in it, found none; add the "
            "clusters' groups"
        )


def _witness_faults(witnesses: Sequence[Mapping[str, Any]], inventory: Inventory) -> Iterator[str]:
    for witness in witnesses:
        name = witness_group_name(witness["name"])
        hosts = inventory.in_group(name)
        if len(hosts) != 1:
            yield (
                f"witness {witness['name']}: wanted one host in the group {name}, found "
                f"{len(hosts) or 'none'}{': ' if hosts else ''}{', '.join(hosts)}"
            )
        port = witness["endpoint"]["port"]
        if port != inventory.store_client_port:
            yield (
                f"witness {witness['name']}: wanted the port that all members of the federation store have "
                f"for greyd, {inventory.store_client_port} (grey_federation_store_client_port), found {port} "
                "in its endpoint; correct one of them"
            )


def _unknown_groups(wanted: Mapping[str, str], inventory: Inventory) -> Iterator[str]:
    """Say which groups are named like that of a cluster or of a witness that is not in the file."""
    for name in sorted(inventory.groups):
        if not name.startswith((_GROUP_PREFIX, _WITNESS_PREFIX)) or name in wanted:
            continue
        if inventory.groups[name]:
            kind = "cluster" if name.startswith(_GROUP_PREFIX) else "witness"
            near = difflib.get_close_matches(name, wanted, n=1)
            hint = f"; the nearest is {near[0]}" if near else ""
            yield (
                f"group {name}: wanted a group of a {kind} in the federation file, found no such {kind}{hint}"
            )


def _host_faults(
    clusters: Sequence[Mapping[str, Any]], witnesses: Sequence[Mapping[str, Any]], inventory: Inventory
) -> Iterator[str]:
    deployed = inventory.in_group(inventory.group)
    homes: dict[str, list[str]] = {}
    groups = [(cluster["name"], group_name(cluster["name"])) for cluster in clusters]
    groups += [(witness["name"], witness_group_name(witness["name"])) for witness in witnesses]
    for name, group in groups:
        for host in inventory.in_group(group):
            homes.setdefault(host, []).append(name)
    for host, names in homes.items():
        if len(set(names)) > 1:
            yield (
                f"host {host}: wanted it in one cluster, found it in {' and '.join(names)}; remove it "
                "from one"
            )
        if host not in deployed:
            yield (
                f"host {host}: wanted it in the group {inventory.group}, found it outside; make its group "
                "a child of it"
            )
    for host in deployed:
        if host not in homes:
            yield f"host {host}: wanted it in the group of a cluster, found it only in {inventory.group}"
    yield from _address_faults(homes, inventory.addresses)


def _address_faults(hosts: Iterable[str], addresses: Mapping[str, str]) -> Iterator[str]:
    owners: dict[str, str] = {}
    for host in hosts:
        address = addresses.get(host, "")
        if not _is_address(address):
            yield (
                f"host {host}: wanted an IP address in grey_address, found {address!r}; set it in the "
                "inventory"
            )
        elif address in owners:
            yield f"hosts {owners[address]} and {host}: both have the address {address}; each needs its own"
        else:
            owners[address] = host


def _engine_faults(clusters: Sequence[Mapping[str, Any]], inventory: Inventory) -> Iterator[str]:
    for cluster in clusters:
        name, hosts = cluster["name"], inventory.hosts(cluster["name"])
        chosen = {host: inventory.engines.get(host, "auto") for host in hosts}
        for host, engine in chosen.items():
            if engine not in ENGINES:
                yield f"host {host}: wanted one of {', '.join(ENGINES)} in grey_engine, found {engine!r}"
        if len(set(chosen.values())) > 1:
            said = ", ".join(f"{host} {engine}" for host, engine in chosen.items())
            yield (
                f"cluster {name}: wanted one grey_engine for all its hosts, found {said}; set it in the "
                f"variables of the group {group_name(name)}"
            )
        elif "sqlite" in chosen.values() and len(hosts) > 1:
            yield (
                f"cluster {name}: its data lives in one embedded store, so wanted one host in the group "
                f"{group_name(name)}, found {len(hosts)}: {', '.join(hosts)}; set grey_engine: etcd, or "
                "remove the others"
            )


def _port_faults(federation: Mapping[str, Any], inventory: Inventory) -> Iterator[str]:
    """Say where two programs of a host would listen on one port."""
    for cluster in federation["clusters"]:
        wanted = {
            "the key-value API (endpoint in the federation file)": cluster["endpoint"]["port"],
            "the control plane (control_plane.endpoint)": federation["control_plane"]["endpoint"]["port"],
            **inventory.other_ports,
            "the federation store (grey_federation_store_client_port)": inventory.store_client_port,
            "the federation store's members (grey_federation_store_peer_port)": inventory.store_port,
            "the engine's members (grey_engine_peer_port)": inventory.engine_port,
        }
        users: dict[int, str] = {}
        for purpose, port in wanted.items():
            if port in users:
                yield (
                    f"cluster {cluster['name']}: wanted a port of its own for {purpose}, found {port}, "
                    f"which is that of {users[port]}; choose another one"
                )
            users.setdefault(port, purpose)


def _at(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _split(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Sort host names and addresses apart, without duplicates."""
    found = sorted(set(names))
    return [name for name in found if not _is_address(name)], [name for name in found if _is_address(name)]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
