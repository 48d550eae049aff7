# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The federation file as grey-ctl understands it, and the inventory's hosts placed in its clusters."""

from __future__ import annotations

import difflib
import ipaddress
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.grey.distributed.plugins.module_utils._command import run
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FEDERATION_AUTHORITY = "federation"
STORE_AUTHORITY = "federation-store"
_GROUP_PREFIX = "cluster_"
_SHOW_SECONDS = 30.0
_WRONG_FILE = 2


def read(grey_ctl: str, path: str) -> dict[str, Any]:
    """Return the checked federation with all defaults. Fails with one line per fault in the file."""
    if not Path(path).is_file():
        raise GreyError(
            f"{path}: wanted the federation file, found no file; name another one with -e "
            "grey_federation_file=PATH",
            errors=[],
        )
    answer = run((grey_ctl, "config", "show", path, "-o", "json"), timeout_seconds=_SHOW_SECONDS)
    if answer.code == 0:
        federation = answer.json()
        if not isinstance(federation, dict):
            raise GreyError(f"grey-ctl config show: wanted a federation, found: {answer.said()}", errors=[])
        return federation
    errors = _errors(answer.json()) if answer.code == _WRONG_FILE and answer.output.strip() else []
    if not errors:
        raise GreyError(
            f"grey-ctl config show {path}: wanted the checked file, found exit {answer.code}: "
            f"{answer.said()}",
            errors=[],
        )
    lines = [rendered(error, path) for error in errors]
    raise GreyError("the federation file is wrong; no host was touched\n" + "\n".join(lines), errors=errors)


def rendered(error: Mapping[str, Any], path: str) -> str:
    """Render one of grey-ctl's faults as FILE:LINE: KEY: MESSAGE (HINT)."""
    place = ":".join(str(part) for part in (error.get("file") or path, error.get("line")) if part is not None)
    parts = [place, *(str(error[key]) for key in ("key", "message") if error.get(key))]
    return ": ".join(parts) + (f" ({error['hint']})" if error.get("hint") else "")


def content(path: str) -> str:
    """Return the file's text, to be copied to the hosts as it is."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GreyError(f"{path}: wanted text in UTF-8, found: {error}") from error


def name_of(path: str) -> str | None:
    """Return the federation's name out of a file that may be wrong otherwise; None when none can be seen."""
    try:
        text = Path(path).read_bytes().decode("utf-8", "replace")
    except OSError:
        return None
    match = re.search(
        r"^federation:.*\n(?:[ \t]*(?:#.*)?\n)*[ \t]+name:[ \t]*[\"']?([\w.-]+)", text, re.MULTILINE
    )
    return match.group(1) if match else None


def group_name(cluster: str) -> str:
    """Return the inventory group of a cluster: aws-east has cluster_aws_east."""
    return _GROUP_PREFIX + re.sub(r"[^A-Za-z0-9]", "_", cluster)


def place(
    federation: Mapping[str, Any],
    groups: Mapping[str, Sequence[str]],
    addresses: Mapping[str, str],
    group: str,
    sources: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Return what every host is, and the members of the federation store.

    ``groups`` are all groups of the inventory, ``group`` the one of all hosts of the deployment,
    ``addresses`` each host's own, ``sources`` further ones that its connections come from. The whole
    inventory counts, never the hosts of the play. Fails with everything that is wrong.
    """
    clusters = federation["clusters"]
    faults = [*_group_faults(clusters, groups, group), *_host_faults(clusters, groups, addresses, group)]
    if faults:
        raise GreyError(
            "the inventory does not fit the federation file; no host was touched\n" + "\n".join(faults),
            errors=faults,
        )
    hosts: dict[str, Any] = {}
    members: list[dict[str, str]] = []
    for cluster in clusters:
        for index, host in enumerate(groups[group_name(cluster["name"])]):
            member = bool(cluster["voter"]) and index == 0
            own = [addresses[host], *(sources or {}).get(host, [])]
            hosts[host] = _host(federation, cluster, host, own, member=member)
            if member:
                members.append({"name": host, "cluster": cluster["name"], "address": addresses[host]})
    return {"hosts": hosts, "members": members}


def _host(
    federation: Mapping[str, Any],
    cluster: Mapping[str, Any],
    host: str,
    addresses: Sequence[str],
    *,
    member: bool,
) -> dict[str, Any]:
    identity = f"{cluster['name']}.{federation['domain']}"
    dns, own_addresses = _split(
        [identity, cluster["endpoint"]["host"], federation["control_plane"]["endpoint"]["host"]]
    )
    certificates = [
        {
            "name": FEDERATION_AUTHORITY,
            "authority": FEDERATION_AUTHORITY,
            "common_name": identity,
            "dns": dns,
            "addresses": own_addresses,
        }
    ]
    if cluster["voter"]:
        certificates.append(
            {
                "name": STORE_AUTHORITY,
                "authority": STORE_AUTHORITY,
                "common_name": host,
                # Members demand the second name of each other: a greyd's certificate joins nothing.
                "dns": [host, *([f"{STORE_AUTHORITY}.{federation['domain']}"] if member else [])],
                "addresses": sorted(set(addresses)),
            }
        )
    return {
        "cluster": cluster["name"],
        "address": addresses[0],
        "identity": identity,
        "voter": bool(cluster["voter"]),
        "member": member,
        "api_port": cluster["endpoint"]["port"],
        "control_port": federation["control_plane"]["endpoint"]["port"],
        "certificates": certificates,
    }


def _group_faults(
    clusters: Sequence[Mapping[str, Any]], groups: Mapping[str, Sequence[str]], group: str
) -> list[str]:
    faults = []
    wanted: dict[str, str] = {}
    for cluster in clusters:
        name = group_name(cluster["name"])
        if name in wanted:
            faults.append(
                f"clusters {wanted[name]} and {cluster['name']}: both have the group {name}; rename one"
            )
        wanted[name] = cluster["name"]
        members = groups.get(name, [])
        if not members:
            faults.append(
                f"cluster {cluster['name']}: wanted one host in the group {name}, found none; add it"
            )
        elif len(members) > 1:
            faults.append(
                f"cluster {cluster['name']}: its data lives in one embedded store, so wanted one host in "
                "the group "
                f"{name}, found {len(members)}: {', '.join(members)}"
            )
    for name in sorted(groups):
        if name.startswith(_GROUP_PREFIX) and name not in wanted and groups[name]:
            near = difflib.get_close_matches(name, wanted, n=1)
            hint = f"; the nearest is {near[0]}" if near else ""
            faults.append(
                f"group {name}: wanted a group of a cluster in the federation file, found no such "
                f"cluster{hint}"
            )
    if not groups.get(group):
        faults.append(
            f"group {group}: wanted all hosts of the deployment in it, found none; add the clusters' groups"
        )
    return faults


def _host_faults(
    clusters: Sequence[Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
    addresses: Mapping[str, str],
    group: str,
) -> list[str]:
    faults = []
    homes: dict[str, list[str]] = {}
    for cluster in clusters:
        for host in groups.get(group_name(cluster["name"]), []):
            homes.setdefault(host, []).append(cluster["name"])
    for host, names in homes.items():
        if len(set(names)) > 1:
            faults.append(
                f"host {host}: wanted it in one cluster, found it in {' and '.join(names)}; remove it "
                "from one"
            )
        if host not in groups.get(group, []):
            faults.append(
                f"host {host}: wanted it in the group {group}, found it outside; make its group a child of it"
            )
    faults += [
        f"host {host}: wanted it in the group of a cluster, found it only in {group}"
        for host in groups.get(group, [])
        if host not in homes
    ]
    owners: dict[str, str] = {}
    for host in homes:
        address = addresses.get(host, "")
        if not _is_address(address):
            faults.append(
                f"host {host}: wanted an IP address in grey_address, found {address!r}; set it in the "
                "inventory"
            )
        elif address in owners:
            faults.append(
                f"hosts {owners[address]} and {host}: both have the address {address}; each needs its own"
            )
        else:
            owners[address] = host
    return faults


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


def _errors(answer: Any) -> list[dict[str, Any]]:
    found = answer.get("errors", []) if isinstance(answer, dict) else []
    return [error for error in found if isinstance(error, dict)]
