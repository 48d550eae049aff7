# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""With which certificate an inventory asks the control plane, and where."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.grey.distributed.plugins.module_utils._control_plane import Endpoint, Tls
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ansible_collections.grey.distributed.plugins.module_utils._federation_facts import Cluster, Facts
    from ansible_collections.grey.distributed.plugins.module_utils._inventory_plan import Host

_FILES = ("cert_file", "key_file", "ca_file")
OPTIONS = ("ctl_config", *_FILES, "names")


@dataclass(frozen=True)
class Access:
    """The certificate, and addresses of host names in lower case."""

    tls: Tls
    names: Mapping[str, Sequence[str]]


def resolved(path: str, folder: Path) -> Path:
    """Return an absolute path; a relative one counts from ``folder``."""
    return folder / Path(os.path.expandvars(path)).expanduser()


def access(
    options: Mapping[str, Any],
    folder: Path,
    federation: str,
    load: Callable[[str], Any],
    *,
    ctl_config_was_named: bool,
) -> Access | None:
    """Return what the options (OPTIONS) say; None without a certificate, as before the first deployment.

    ``load`` reads a YAML file. Fails when what is said is not usable.
    """
    names = _names(options["names"], "names")
    given = {name: options[name] for name in _FILES if options[name]}
    if given and len(given) < len(_FILES):
        missing = ", ".join(name for name in _FILES if name not in given)
        raise GreyError(f"wanted cert_file, key_file and ca_file together, found no {missing}")
    ctl = resolved(options["ctl_config"], folder) if options["ctl_config"] else None
    if ctl is not None and not ctl.is_file():
        if ctl_config_was_named and not given:
            raise GreyError(f"ctl_config: wanted grey-ctl's file, found no file {ctl}")
        ctl = None
    if ctl is not None:
        entry = _entry(load(str(ctl)), str(ctl), federation, needed=ctl_config_was_named and not given)
        names = {**_names(entry.get("names", {}), f"{ctl}: names"), **names}
        if entry:
            given = given or _files(entry.get("tls"), str(ctl))
    if not given:
        return None
    return Access(Tls(**{name: str(resolved(path, folder)) for name, path in given.items()}), names)


def endpoints(facts: Facts, hosts: Sequence[Host]) -> list[Endpoint]:
    """Return whom to ask: each cluster by name and by its hosts' addresses; likely voters first."""
    ordered = sorted(facts.clusters, key=lambda cluster: "read-only" in cluster.capabilities)
    found = [
        Endpoint(cluster.identity, place, facts.control_port)
        for cluster in ordered
        for place in (cluster.host, *_addresses(cluster, hosts))
    ]
    found.append(Endpoint(facts.control_host, facts.control_host, facts.control_port))
    return list(dict.fromkeys(found))


def _addresses(cluster: Cluster, hosts: Sequence[Host]) -> list[str]:
    known = [str(host.variables.get("grey_address", "")) for host in hosts if host.cluster == cluster.name]
    return [address for address in known if address and "{{" not in address]


def _entry(document: Any, path: str, federation: str, *, needed: bool) -> Mapping[str, Any]:
    known = document.get("federations") if isinstance(document, Mapping) else None
    if not isinstance(known, Mapping):
        raise GreyError(f"{path}: wanted grey-ctl's file with the key federations, found something else")
    entry = known.get(federation)
    if not isinstance(entry, Mapping):
        if needed:
            found = ", ".join(str(name) for name in known) or "none"
            raise GreyError(
                f"{path}: wanted the federation {federation}, found: {found}; "
                "name its file with ctl_config or the certificate with cert_file, key_file and ca_file"
            )
        return {}
    return entry


def _files(found: Any, path: str) -> dict[str, Any]:
    if not isinstance(found, Mapping) or not all(isinstance(found.get(name), str) for name in _FILES):
        raise GreyError(f"{path}: wanted tls with {', '.join(_FILES)}, found something else")
    return {name: found[name] for name in _FILES}


def _names(found: Any, where: str) -> dict[str, list[str]]:
    if not isinstance(found, Mapping):
        raise GreyError(
            f"{where}: wanted a mapping of host names, each with a list of addresses, found {found!r}"
        )
    names = {}
    for name, addresses in found.items():
        try:
            names[str(name).rstrip(".").lower()] = [
                str(ipaddress.ip_address(str(each))) for each in addresses
            ]
        except (TypeError, ValueError) as error:
            raise GreyError(f"{where}.{name}: wanted a list of IP addresses, found: {error}") from None
    return names
