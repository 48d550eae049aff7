#!/usr/bin/python
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: what a host is, and what it reaches, measured."""

from __future__ import annotations

DOCUMENTATION = r"""
module: grey_probe
short_description: Measure what a host is and what it reaches
version_added: 0.2.0
description:
  - Returns the versions of what is there, memory and cores, room and speed of the disks, the clock, which ports of other hosts
    answer, and the state of the certificates in the files and of those that are served, in one call.
  - Judges nothing; M(grey.distributed.grey_report) does. Works on a host before the first deployment and after it.
  - The speed of a disk is measured with some small synced writes to a file without a name, for two seconds at most, and not in
    check mode. Nothing stays.
author:
  - Grey Distributed contributors (@grey-distributed)
extends_documentation_fragment:
  - grey.distributed.attributes.read_only
options:
  host:
    description: The host's name in the inventory.
    type: str
    required: true
  hosts:
    description: What every host is, as M(grey.distributed.grey_federation_config) returns it.
    type: dict
    required: true
  ports:
    description: The ports that the host's own programs listen on.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: The number.
        type: int
        required: true
      purpose:
        description: What it is for.
        type: str
        required: true
  store_client_port:
    description: The port of the federation store for greyd.
    type: int
    default: 2379
  store_port:
    description: The port that members of the federation store talk with each other at.
    type: int
    default: 2380
  engine_port:
    description: The port that members of a cluster's engine talk with each other at.
    type: int
    default: 2390
  deployed_file:
    description: What only a deployed host has, the node's identity file or the marker of a witness.
    type: path
    required: true
  folders:
    description: The folders that data lies in, or will.
    type: list
    elements: path
    default: []
  programs:
    description: Programs to ask for their version, by name.
    type: dict
    default: {}
  bootstrap_files:
    description: By group of etcd members, the file that says how the host's member began.
    type: dict
    default: {}
  certificates:
    description: The certificates that the host should have, as for M(grey.distributed.grey_certificates).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What it is called.
        type: str
        required: true
      authority:
        description: The authority that signs it.
        type: str
        required: true
      common_name:
        description: The common name inside.
        type: str
        required: true
      dns:
        description: The DNS names inside.
        type: list
        elements: str
        default: []
      addresses:
        description: The IP addresses inside.
        type: list
        elements: str
        default: []
  files:
    description: By certificate, the paths C(cert_file), C(key_file) and C(ca_file).
    type: dict
    default: {}
  authorities:
    description: By authority, its certificate in PEM; an empty text when it does not exist yet.
    type: dict
    default: {}
  served:
    description: By certificate, the ports that serve it.
    type: dict
    default: {}
  python:
    description:
      - A Python on the host that has C(cryptography), such as that of the node's release. The module runs again with it when
        its own Python lacks the library. Without both, certificates in files are not read.
    type: path
"""

EXAMPLES = r"""
- name: Measure
  grey.distributed.grey_probe:
    host: "{{ inventory_hostname }}"
    hosts: "{{ config.hosts }}"
    deployed_file: /etc/grey/identity.json
    folders: [/var/lib/grey/data]
    programs: {etcd: /usr/bin/etcd}
  register: probed
"""

RETURN = r"""
deployed:
  description: Whether the host was deployed.
  returned: success
  type: bool
  sample: true
system:
  description: Operating system, kernel, C library, architecture, and the module's Python.
  returned: success
  type: dict
  sample: {os: Debian GNU/Linux 12, kernel: 6.1.0, libc: glibc 2.36, architecture: x86_64, python: 3.11.2}
machine:
  description: Memory in MiB, cores, and how many files a process may have open.
  returned: success
  type: dict
  sample: {memory_mib: 3912, cores: 2, open_files: 1048576}
disks:
  description: The file systems of O(folders), with room, free file numbers, and the time a small synced write takes.
  returned: success
  type: list
  elements: dict
  sample:
    - path: /var/lib
      folders: [/var/lib/grey/data]
      free_mib: 20480
      total_mib: 40960
      files: 2621440
      files_free: 2600000
      sync_ms: 1.2
      worst_sync_ms: 7.9
      problem: ""
clock:
  description: As M(grey.distributed.grey_preflight) returns it, with a closer look at the offset.
  returned: success
  type: dict
versions:
  description: What the programs say their version is; null when they are not there or do not run.
  returned: success
  type: dict
  sample: {etcd: 3.4.23}
heartbeats:
  description: The heartbeat of each group in O(bootstrap_files), in milliseconds; null when its file says none.
  returned: success
  type: dict
  sample: {federation-store: 100}
listens:
  description: Whether something listens, by port.
  returned: success
  type: dict
  sample: {"8080": true}
reached:
  description: How many ports of other hosts were tried.
  returned: success
  type: int
  sample: 12
unreached:
  description: Those from which nothing came back; a refusal is an answer.
  returned: success
  type: list
  elements: dict
  sample: [{host: gcp-west-1, port: 8443, purpose: control plane, state: silent, problem: no answer within 2 s}]
certificates:
  description: For each of O(certificates), what is wrong with it, until when it is valid, and what its ports serve.
  returned: success
  type: list
  elements: dict
  sample:
    - name: federation
      there: true
      reasons: []
      until: "2026-12-03 10:00:00"
      served: [{port: 8443, state: file, problem: ""}]
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.respawn import has_respawned, respawn_module
from ansible_collections.grey.distributed.plugins.module_utils import (
    _certificates,
    _clock,
    _hardware,
    _neighbours,
    _preflight,
    _reach,
    _served,
    _x509,
)
from ansible_collections.grey.distributed.plugins.module_utils._outcome import Outcome, finish


def work(params: dict[str, Any], check: bool) -> Outcome:
    """Do what the module is for."""
    began = time.time()
    own = params["hosts"][params["host"]]
    deployed = Path(params["deployed_file"]).exists()
    reached, unreached = _neighbourhood(params)
    return Outcome(
        {
            "deployed": deployed,
            "system": _hardware.system(),
            "machine": dataclasses.asdict(_hardware.machine()),
            "disks": [
                dataclasses.asdict(disk) for disk in _hardware.disks(params["folders"], measure=not check)
            ],
            "versions": _versions(params["programs"]),
            "heartbeats": {
                group: _preflight.told_heartbeat_ms(path) for group, path in params["bootstrap_files"].items()
            },
            "listens": _listens(own["address"], [item["port"] for item in params["ports"]]),
            "reached": reached,
            "unreached": unreached,
            "certificates": [_certificate(item, params, own["address"]) for item in params["certificates"]],
            "clock": _clock.here(began, service=True),
        }
    )


def _versions(programs: dict[str, str]) -> dict[str, str | None]:
    there = {name: path for name, path in programs.items() if Path(path).exists()}
    _faults, found = _preflight.binary_faults(
        [_preflight.Binary(path, ("--version",)) for path in there.values()]
    )
    return {name: found.get(there.get(name, "")) for name in programs}


def _listens(address: str, ports: list[int]) -> dict[str, bool]:
    found = _reach.reach_all([(address, port) for port in ports])
    return {str(port): each.state == "open" for port, each in zip(ports, found, strict=True)}


def _neighbourhood(params: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    ports = _neighbours.StorePorts(params["store_client_port"], params["store_port"], params["engine_port"])
    targets = list(_neighbours.targets(params["host"], params["hosts"], ports))
    found = _reach.reach_all([(target.address, target.port) for target in targets])
    return len(targets), [
        {
            "host": target.host,
            "port": target.port,
            "purpose": target.purpose,
            "state": each.state,
            "problem": each.problem,
        }
        for target, each in zip(targets, found, strict=True)
        if each.state in ("silent", "unreachable")
    ]


def _certificate(item: dict[str, Any], params: dict[str, Any], address: str) -> dict[str, Any]:
    wanted = _certificates.wanted(item, {"owner": "", "group": "", **params})
    there = Path(wanted.cert_file).exists()
    reasons: list[str] | None = None
    until = None
    if there and not _x509.MISSING:
        reasons = _certificates.reasons(wanted, _x509.now())
        certificate = _x509.load_certificate(Path(wanted.cert_file))
        until = f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S}" if certificate else None
    ports = params["served"].get(item["name"], []) if there and wanted.issuer else []
    return {
        "name": item["name"],
        "there": there,
        "reasons": reasons,
        "until": until,
        "served": [
            {
                "port": port,
                **dataclasses.asdict(
                    _served.look(
                        address,
                        port,
                        cert_file=wanted.cert_file,
                        key_file=wanted.key_file,
                        authority=wanted.issuer,
                    )
                ),
            }
            for port in ports
        ],
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "hosts": {"type": "dict", "required": True},
            "ports": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "port": {"type": "int", "required": True},
                    "purpose": {"type": "str", "required": True},
                },
            },
            "store_client_port": {"type": "int", "default": 2379},
            "store_port": {"type": "int", "default": 2380},
            "engine_port": {"type": "int", "default": 2390},
            "deployed_file": {"type": "path", "required": True},
            "folders": {"type": "list", "elements": "path", "default": []},
            "programs": {"type": "dict", "default": {}},
            "bootstrap_files": {"type": "dict", "default": {}},
            "certificates": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "authority": {"type": "str", "required": True},
                    "common_name": {"type": "str", "required": True},
                    "dns": {"type": "list", "elements": "str", "default": []},
                    "addresses": {"type": "list", "elements": "str", "default": []},
                },
            },
            "files": {"type": "dict", "default": {}},
            "authorities": {"type": "dict", "default": {}},
            "served": {"type": "dict", "default": {}},
            "python": {"type": "path"},
        },
        supports_check_mode=True,
    )
    python = module.params["python"]
    if _x509.MISSING and python and Path(python).exists() and not has_respawned():
        respawn_module(python)
    finish(module, work)


if __name__ == "__main__":
    main()
