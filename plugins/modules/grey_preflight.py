#!/usr/bin/python
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: what a host must offer before anything on it is touched."""

from __future__ import annotations

DOCUMENTATION = r"""
module: grey_preflight
short_description: Check what a host must offer before anything on it is touched
version_added: 0.1.0
description:
  - Checks ports, socket paths, folders, free disk space, the architecture and the programs of a host in one call.
  - Finds a deployment of another federation, cluster, node, address or engine on the host, which must not be overwritten.
  - Returns everything that is wrong at once and never fails for it, so that a play can show the faults of all hosts together.
author:
  - Grey Distributed contributors (@grey-distributed)
extends_documentation_fragment:
  - grey.distributed.attributes.read_only
options:
  host:
    description: What to call the host in the faults.
    type: str
    required: true
  root:
    description:
      - The folder below which everything of this deployment lives on the host; empty on a host of its own.
      - Processes of this deployment are known by it, so that their ports do not count as taken.
    type: str
    default: ""
  address:
    description: The address the host's programs listen on.
    type: str
    required: true
  ports:
    description: The TCP ports they listen on.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: The number.
        type: int
        required: true
      purpose:
        description: What it is for, as errors should say it.
        type: str
        required: true
  sockets:
    description: Paths of unix sockets that will be made.
    type: list
    elements: path
    default: []
  folders:
    description: Folders that must exist and be writable, or must be possible to make.
    type: list
    elements: path
    default: []
  free_bytes:
    description: Free space wanted on the file system of the last folder.
    type: int
    default: 0
  binaries:
    description: Programs that must run.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The absolute path.
        type: path
        required: true
      arguments:
        description: What makes it print its version and end.
        type: list
        elements: str
        default: [--version]
      minimum:
        description:
          - The oldest version that will do.
          - A program without it is not started when a process of this deployment runs it already.
        type: str
  install_dir:
    description:
      - The folder of the node's releases, when M(grey.distributed.grey_release) installs them on this host. Then its Python
        must be one that a release can be installed with.
    type: path
  release:
    description: The release that this collection carries. Needed with O(install_dir).
    type: str
  version:
    description:
      - Which release should run, when it is not O(release); the version or the name of one that is installed.
    type: str
    default: ""
  python:
    description: The Python that a release would be installed with; the module's own when none is given.
    type: path
  wanted:
    description: Programs that a later step puts there; RV(absent) says which are not there yet, or are too old.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The program.
        type: path
        required: true
      minimum:
        description: The oldest version that will do.
        type: str
        required: true
  members:
    description: The groups of etcd members that hosts may belong to.
    type: list
    elements: dict
    default: []
    suboptions:
      group:
        description: The group, as RV(markers) and errors should call it.
        type: str
        required: true
      marker_file:
        description: Where the member of this host, when it has one, keeps its marker.
        type: path
        required: true
      wanted:
        description: Whether the host should have a member of it.
        type: bool
        required: true
      bootstrap_file:
        description: What an interrupted run may have told the member already.
        type: path
      peers:
        description:
          - All hosts of the group, with the address and port that they talk with each other at.
          - The round trip to the others is measured while this host has no member yet.
        type: dict
        default: {}
      free_bytes:
        description: What its data needs, on top of O(free_bytes), while this host has no member yet.
        type: int
        default: 0
  memory_mib:
    description: The memory wanted for all that the host is to run.
    type: int
    default: 0
  max_clock_offset:
    description:
      - How far the host's clock may be from the controller's, in seconds. Only what is certainly further away counts, because
        answers take time.
    type: float
  clock:
    description: What follows for a clock that is further away; a fault with V(refuse), a warning with V(warn).
    type: str
    choices: [refuse, warn]
    default: refuse
  time_service:
    description: Whether to look for the host's time service.
    type: bool
    default: false
  engine:
    description: What the data of the host should live in, V(sqlite) or V(etcd). Needs O(node_file).
    type: str
  manager:
    description:
      - What is to keep the programs running.
      - V(systemd) must run the host, and needs root; V(supervisor) runs everything as the one who connects.
      - A deployment that the other one keeps running is a fault, since it would be stopped on all hosts at once.
    type: str
    choices: [systemd, supervisor]
    default: supervisor
  supervisor_file:
    description: Where supervisord's configuration is when O(manager=supervisor), by which such a deployment is known.
    type: path
  user:
    description: The user that everything is to belong to; empty for the one who connects.
    type: str
    default: ""
  group:
    description: The group that everything is to belong to; empty for that of the one who connects.
    type: str
    default: ""
  hint:
    description: What to do about a path that is too long.
    type: str
    default: choose a shorter root folder
  node_file:
    description: The node's file, when the host may have one; the address in it must be O(address).
    type: path
  address_hint:
    description: What to do about a host that is deployed with another address.
    type: str
    default: set grey_address to that one, or tear the deployment down first
  identity_file:
    description: The node's identity file, when the host may have one; it must say what O(identity) says.
    type: path
  identity:
    description: Whose data the host is to hold; needed with O(identity_file).
    type: dict
    suboptions:
      federation:
        description: The federation's name.
        type: str
        required: true
      cluster:
        description: The cluster's name.
        type: str
        required: true
      node:
        description: The node's name.
        type: str
        required: true
"""

EXAMPLES = r"""
- name: See whether the host can take the deployment
  grey.distributed.grey_preflight:
    host: "{{ inventory_hostname }}"
    root: "{{ grey_root }}"
    address: 127.77.1.1
    ports:
      - port: 8080
        purpose: key-value API
    binaries:
      - path: /usr/bin/etcd
        minimum: "3.4"
  register: preflight
"""

RETURN = r"""
faults:
  description: One sentence per thing that is wrong, with what was wanted, what was found and the next step.
  returned: success
  type: list
  elements: str
  sample: []
architecture:
  description: The machine's architecture.
  returned: success
  type: str
  sample: x86_64
markers:
  description:
    - What the host's marker says, for each group of O(members) that should have a member here.
    - V(member) when it was part of a healthy majority, null when it never started.
  returned: success
  type: dict
  sample: {federation-store: member}
clock:
  description:
    - C(synchronised) is what the kernel says of the clock, null when it does not say; C(most_error_ms) is how wrong it may be.
    - C(offset) bounds how far it is ahead of the controller's, in seconds, with C(least) and C(most).
    - C(service) is the time service with O(time_service=true), null in a container, without systemd, or when there is none.
  returned: success
  type: dict
  sample:
    synchronised: true
    most_error_ms: 12.5
    offset: {least: -0.21, most: 0.35}
    service: {unit: chrony.service, active: true, enabled: true}
rhythms:
  description:
    - For each group of O(members) that should have a member here and has none yet, what its heartbeat can be chosen from.
    - C(round_trip_ms) is the longest round trip to the other hosts, null when none of them answered. C(heartbeat_ms) is what
      the bootstrap file says already, else null.
  returned: success
  type: dict
  sample: {federation-store: {round_trip_ms: 71.3, heartbeat_ms: null}}
account:
  description: Whether O(user) and O(group) are there; also when none is wanted.
  returned: success
  type: bool
  sample: true
release:
  description:
    - The release that is installed on the host and in use; null when there is none, or only a part of one, or without
      O(install_dir).
  returned: success
  type: str
  sample: 0.2.0-1a2b3c4d
chosen:
  description: The release that should run here; null when the host does not have the one that O(version) names.
  returned: success
  type: str
  sample: 0.3.0-5e6f7a8b
running:
  description: The release that greyd runs from, which an interrupted run may have left; null when greyd does not run.
  returned: success
  type: str
  sample: 0.2.0-1a2b3c4d
trial:
  description: The release that was switched to and has not proven itself yet, as M(grey.distributed.grey_release) marks it.
  returned: success
  type: str
  sample: null
fallback:
  description: The release to go back to when RV(chosen) does not come up; null when none is known to work.
  returned: success
  type: str
  sample: 0.2.0-1a2b3c4d
releases:
  description: The releases that are installed, the newest installation first.
  returned: success
  type: list
  elements: str
  sample: [0.3.0-5e6f7a8b, 0.2.0-1a2b3c4d]
target:
  description: The Python version and the architecture that a wheelhouse for this host is made for.
  returned: when O(install_dir) is given
  type: dict
  sample: {python: "3.11", architecture: x86_64}
absent:
  description: The programs of O(wanted) that are not there yet, or are too old.
  returned: success
  type: list
  elements: str
  sample: [/opt/grey/etcd/etcd]
versions:
  description: The versions of the programs that were started, by path.
  returned: success
  type: dict
  sample: {/usr/bin/etcd: 3.4.23}
"""

import dataclasses
import platform
import sys
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.grey.distributed.plugins.module_utils import _clock, _hardware, _preflight
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError, Outcome, finish
from ansible_collections.grey.distributed.plugins.module_utils._preflight_arguments import ARGUMENTS
from ansible_collections.grey.distributed.plugins.module_utils._release import Releases


def work(params: dict[str, Any], check: bool) -> Outcome:  # noqa: ARG001 (nothing is changed in either mode)
    """Do what the module is for."""
    began = time.time()
    instance = params["root"] or "/"
    binaries = [
        _preflight.Binary(item["path"], tuple(item["arguments"]), item["minimum"])
        for item in params["binaries"]
        if item["minimum"] or not _preflight.runs(instance, item["path"])
    ]
    absent = [
        item["path"]
        for item in params["wanted"]
        if not _preflight.runs(instance, item["path"]) and _lacks(item["path"], item["minimum"])
    ]
    ports = [(item["port"], item["purpose"]) for item in params["ports"]]
    binary_faults, versions = _preflight.binary_faults(binaries)
    faults = [
        *_preflight.architecture_faults(),
        *_hardware.memory_faults(params["memory_mib"]),
        *_preflight.manager_faults(params["manager"], params["user"]),
        *_preflight.other_manager_faults(params["manager"], instance, params["supervisor_file"]),
        *_preflight.path_faults([params["root"]]),
        *_preflight.socket_faults(params["sockets"], params["hint"]),
        *_preflight.port_faults(params["address"], ports, instance),
        *_preflight.folder_faults(params["folders"]),
        *binary_faults,
        *_preflight.member_faults(
            (item["group"], item["marker_file"], item["wanted"]) for item in params["members"]
        ),
    ]
    if params["identity_file"] is not None:
        faults += _preflight.identity_faults(params["identity_file"], params["identity"])
    if params["node_file"] is not None:
        faults += _preflight.address_faults(params["node_file"], params["address"], params["address_hint"])
        if params["engine"] is not None:
            faults += _preflight.engine_faults(params["node_file"], params["engine"])
    installed: dict[str, Any] = dict.fromkeys(("release", "chosen", "running", "trial", "fallback"))
    installed["releases"] = []
    if params["install_dir"] is not None:
        python_faults, python = _preflight.python_faults(params["python"] or sys.executable)
        faults += python_faults
        releases = Releases(params["install_dir"])
        chosen = None
        try:
            chosen = releases.choose(params["release"], params["version"])
        except GreyError as error:
            faults.append(str(error))
        installed = {
            "release": releases.current(),
            "chosen": chosen,
            "running": releases.running(),
            "trial": releases.trial(),
            "fallback": releases.fallback(chosen),
            "releases": releases.installed(),
            "target": dataclasses.asdict(python.target) if python is not None else None,
        }
    if params["folders"]:
        faults += _preflight.space_faults(
            params["folders"][-1], _preflight.wanted_bytes(params["free_bytes"], params["members"])
        )
    faults = [f"{params['host']}: {fault}" for fault in faults]
    return Outcome(
        {
            "faults": faults,
            "architecture": platform.machine(),
            "versions": versions,
            "markers": {
                item["group"]: _preflight.marker_state(item["marker_file"])
                for item in params["members"]
                if item["wanted"]
            },
            "clock": _clock.here(began, service=params["time_service"]),
            "rhythms": _preflight.rhythms(params["host"], params["members"]),
            "absent": absent,
            "account": _preflight.account_there(params["user"], params["group"]),
            **installed,
        }
    )


def _lacks(path: str, minimum: str) -> bool:
    faults, _versions = _preflight.binary_faults([_preflight.Binary(path, ("--version",), minimum)])
    return bool(faults)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        required_by={"identity_file": ["identity"], "install_dir": ["release"]},
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
