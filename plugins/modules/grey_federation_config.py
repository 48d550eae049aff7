#!/usr/bin/python
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: the federation file, checked, and the inventory's hosts placed in it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: grey_federation_config
short_description: Read and check the federation file, and place the hosts in its clusters
version_added: 0.1.0
description:
  - Runs C(grey-ctl config show) on the controller and returns the federation with all defaults filled in.
  - Checks that every cluster has hosts, that no host is in two clusters, that every host has an address, that no two programs
    of a host have one port, and that the engine of each cluster can have its hosts.
  - Contacts no host, so that a wrong file or inventory is refused before anything is touched.
author:
  - Grey Distributed contributors (@grey-distributed)
extends_documentation_fragment:
  - grey.distributed.attributes.read_only
options:
  path:
    description: The federation file.
    type: path
    required: true
  grey_ctl:
    description: The grey-ctl program on the controller.
    type: path
    default: grey-ctl
  groups:
    description: All groups of the inventory with their hosts. Needed unless O(name_only=true).
    type: dict
  addresses:
    description: The address of each host. Needed unless O(name_only=true).
    type: dict
  sources:
    description:
      - Further addresses that the connections of a host come from, by host, where they are not its own.
      - The members of the federation store compare them with each other's certificates.
    type: dict
    default: {}
  engines:
    description:
      - What the data of each host's cluster lives in, by host, V(auto), V(sqlite) or V(etcd).
      - V(auto) is V(etcd) for a cluster of several hosts.
    type: dict
    default: {}
  metrics_port:
    description: The port of metrics and health.
    type: int
    default: 9090
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
  leaving:
    description: Hosts of the inventory that count as gone.
    type: list
    elements: str
    default: []
  replaced:
    description: Hosts that stay, but whose members of etcd groups are to be replaced by new ones.
    type: list
    elements: str
    default: []
  group:
    description: The group of all hosts of the deployment.
    type: str
    default: grey
  name_only:
    description: Only find the federation's name, in a file that may be wrong otherwise; for tearing down.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Read the federation file
  grey.distributed.grey_federation_config:
    path: /srv/inventory/federation.yaml
    groups: "{{ groups }}"
    addresses: {aws-east-1: 127.77.1.1}
  delegate_to: localhost
  run_once: true
  register: config
"""

RETURN = r"""
name:
  description: The federation's name; null when O(name_only=true) and none can be seen.
  returned: success
  type: str
  sample: global-grey
federation:
  description: The federation with all defaults.
  returned: unless O(name_only=true)
  type: dict
content:
  description: The file's text.
  returned: unless O(name_only=true)
  type: str
hosts:
  description: What each host is, with its cluster, address, ports and the certificates it may have.
  returned: unless O(name_only=true)
  type: dict
members:
  description: The members of the federation store, one per voter cluster, then the witnesses, whose cluster is null.
  returned: unless O(name_only=true)
  type: list
  elements: dict
  sample: [{name: aws-east-1, cluster: aws-east, address: 127.77.1.1}]
groups:
  description:
    - The groups of etcd members, the federation store and the engines of the clusters on etcd, each with its token, and all
      its members with the address and port that they talk with each other at.
  returned: unless O(name_only=true)
  type: list
  elements: dict
  sample: [{name: engine-aws-east, token: global-grey-aws-east, members: {aws-east-1: "192.0.2.11:2390"}}]
departures:
  description: The members to remove, of hosts that leave or are replaced.
  returned: unless O(name_only=true)
  type: list
  elements: dict
  sample: [{host: aws-east-3, group: engine-aws-east, peer: "192.0.2.13:2390"}]
authorities:
  description: The authorities that sign the hosts' certificates.
  returned: unless O(name_only=true)
  type: list
  elements: dict
  sample: [{name: federation, common_name: Grey federation}, {name: engine-aws-east, common_name: Grey engine aws-east}]
errors:
  description: The faults that were found, each with file, line, key, message and hint, or as text for the inventory.
  returned: when the file or the inventory is wrong
  type: list
  elements: raw
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.grey.distributed.plugins.module_utils import _federation_file, _placement
from ansible_collections.grey.distributed.plugins.module_utils._outcome import Outcome, finish


def work(params: dict[str, Any], check: bool) -> Outcome:  # noqa: ARG001 (nothing is changed in either mode)
    """Do what the module is for."""
    path = params["path"]
    if params["name_only"]:
        return Outcome({"name": _federation_file.name_of(path)})
    federation = _federation_file.read(params["grey_ctl"], path)
    inventory = _placement.Inventory(
        groups=params["groups"],
        addresses=params["addresses"],
        sources=params["sources"],
        engines=params["engines"],
        group=params["group"],
        leaving=params["leaving"],
        replaced=params["replaced"],
        other_ports={"metrics (grey_metrics_port)": params["metrics_port"]},
        store_client_port=params["store_client_port"],
        store_port=params["store_port"],
        engine_port=params["engine_port"],
    )
    return Outcome(
        {
            "name": federation["name"],
            "federation": federation,
            "content": _federation_file.content(path),
            **_placement.place(federation, inventory),
        }
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "grey_ctl": {"type": "path", "default": "grey-ctl"},
            "groups": {"type": "dict"},
            "addresses": {"type": "dict"},
            "sources": {"type": "dict", "default": {}},
            "engines": {"type": "dict", "default": {}},
            "leaving": {"type": "list", "elements": "str", "default": []},
            "replaced": {"type": "list", "elements": "str", "default": []},
            "metrics_port": {"type": "int", "default": 9090},
            "store_client_port": {"type": "int", "default": 2379},
            "store_port": {"type": "int", "default": 2380},
            "engine_port": {"type": "int", "default": 2390},
            "group": {"type": "str", "default": "grey"},
            "name_only": {"type": "bool", "default": False},
        },
        required_if=[("name_only", False, ("groups", "addresses"))],
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
