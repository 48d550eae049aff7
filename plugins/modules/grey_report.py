#!/usr/bin/python
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: what the values that hosts measured mean."""

from __future__ import annotations

DOCUMENTATION = r"""
module: grey_report
short_description: Judge what the hosts measured, and report it
version_added: 0.2.0
description:
  - Turns the answers of M(grey.distributed.grey_preflight), M(grey.distributed.grey_probe) and M(grey.distributed.grey_link)
    into findings, each with the value, what was wanted and the next step, and writes them to a file when one is named.
  - Meant for the controller. Never fails for what it finds, so that a play can show it first.
author:
  - Grey Distributed contributors (@grey-distributed)
extends_documentation_fragment:
  - grey.distributed.attributes
options:
  title:
    description: What the report is of.
    type: str
    required: true
  dest:
    description: The file to write, as JSON when its name ends with C(.json) and as Markdown when with C(.md).
    type: path
  controller:
    description: Versions of the controller; C(ansible) is needed.
    type: dict
    required: true
  placed:
    description: What every host is, as M(grey.distributed.grey_federation_config) returns it.
    type: dict
    required: true
  preflights:
    description: By host, what M(grey.distributed.grey_preflight) answered, or how it failed.
    type: dict
    required: true
  probes:
    description: By host, what M(grey.distributed.grey_probe) answered, or how it failed.
    type: dict
    required: true
  links:
    description: By host, what M(grey.distributed.grey_link) measured.
    type: dict
    default: {}
  limits:
    description: What is wanted of the hosts.
    type: dict
    required: true
    suboptions:
      ansible:
        description: The oldest ansible-core.
        type: str
        required: true
      etcd:
        description: The oldest etcd.
        type: str
        required: true
      max_clock_offset:
        description: How far clocks may be apart, in seconds.
        type: float
        required: true
      sync_ms:
        description: How long a small synced write may take; longer is a warning.
        type: float
        required: true
      worst_sync_ms:
        description: Longer than this is a fault.
        type: float
        required: true
      quota:
        description: How far an engine may grow, as in the node's file.
        type: str
        required: true
      bandwidth_mbit:
        description: The bandwidth between sites below which there is a warning, in Mbit/s.
        type: float
        required: true
      link_port:
        description: The port that was measured at.
        type: int
        required: true
      store_heartbeat_ms:
        description: The heartbeat of the federation store when it is set; V(0) is the one that it began with.
        type: int
        default: 0
"""

EXAMPLES = r"""
- name: Judge what was measured
  grey.distributed.grey_report:
    title: global-grey
    dest: /tmp/report.md
    controller: {ansible: "{{ ansible_version.full }}"}
    placed: "{{ config.hosts }}"
    preflights: "{{ preflights }}"
    probes: "{{ probes }}"
    limits:
      ansible: "2.17"
      etcd: "3.4"
      max_clock_offset: 0.5
      sync_ms: 10
      worst_sync_ms: 100
      quota: 2Gi
      bandwidth_mbit: 10
      link_port: 8444
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
findings:
  description: All findings, one by one.
  returned: success
  type: list
  elements: dict
  sample:
    - section: disks
      state: warning
      where: aws-east-1
      what: sync at /var/lib
      value: 14.2 ms, at worst 90 ms
      wanted: 10 ms
      next: "take a faster disk (SSD), or one that others use less: etcd syncs each write"
summary:
  description: How many findings there are of each state.
  returned: success
  type: dict
  sample: {fault: 0, warning: 1, ok: 41}
faults:
  description: The faults, each as one sentence.
  returned: success
  type: list
  elements: str
  sample: []
table:
  description: A table per section.
  returned: success
  type: str
"""

import dataclasses
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.grey.distributed.plugins.module_utils import _files, _findings, _judgement
from ansible_collections.grey.distributed.plugins.module_utils._outcome import Outcome, finish


def work(params: dict[str, Any], check: bool) -> Outcome:
    """Do what the module is for."""
    values = {key: params[key] for key in ("controller", "preflights", "probes", "links")}
    view = _judgement.View(placed=params["placed"], limits=_judgement.Limits(**params["limits"]), **values)
    found = _judgement.judge(view)
    outcome = Outcome(
        {
            "findings": [dataclasses.asdict(each) for each in found],
            "summary": _findings.counted(found),
            "faults": [_sentence(each) for each in found if each.state == "fault"],
            "table": "\n".join(_findings.table(found)),
        }
    )
    if params["dest"] is not None:
        content = _findings.rendered(params["dest"], params["title"], found, values)
        outcome.add(_files.ensure_file(_files.File(params["dest"], content, 0o644), check=check))
    return outcome


def _sentence(found: _findings.Finding) -> str:
    said = f"{found.where}: {found.section}: {found.what}: wanted {found.wanted}, found {found.value}"
    return f"{said}; {found.next}" if found.next else said


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "title": {"type": "str", "required": True},
            "dest": {"type": "path"},
            "controller": {"type": "dict", "required": True},
            "placed": {"type": "dict", "required": True},
            "preflights": {"type": "dict", "required": True},
            "probes": {"type": "dict", "required": True},
            "links": {"type": "dict", "default": {}},
            "limits": {
                "type": "dict",
                "required": True,
                "options": {
                    "ansible": {"type": "str", "required": True},
                    "etcd": {"type": "str", "required": True},
                    "max_clock_offset": {"type": "float", "required": True},
                    "sync_ms": {"type": "float", "required": True},
                    "worst_sync_ms": {"type": "float", "required": True},
                    "quota": {"type": "str", "required": True},
                    "bandwidth_mbit": {"type": "float", "required": True},
                    "link_port": {"type": "int", "required": True},
                    "store_heartbeat_ms": {"type": "int", "default": 0},
                },
            },
        },
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
