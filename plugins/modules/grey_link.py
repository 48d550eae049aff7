#!/usr/bin/python
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: the way between two sites, measured."""

from __future__ import annotations

DOCUMENTATION = r"""
module: grey_link
short_description: Measure round trip, clocks and bandwidth between hosts of different sites
version_added: 0.2.0
description:
  - One host of each site listens for a while, and the others measure the way to it.
  - The listener answers only those that know the run's token, and sends or takes a bounded number of bytes for a bounded
    time. It ends when it is told, or by itself; it needs no rights and no program of the node.
  - Where the port does not answer, only the round trip is measured, by connecting to a port that any answer comes from.
author:
  - Grey Distributed contributors (@grey-distributed)
extends_documentation_fragment:
  - grey.distributed.attributes.read_only
options:
  state:
    description:
      - V(listening) starts a listener on O(address) in a process of its own.
      - V(measured) measures the ways to O(peers).
      - V(stopped) ends the listener on O(address).
    type: str
    choices: [listening, measured, stopped]
    required: true
  token:
    description: What the listeners of this run are known by; any text of letters and digits.
    type: str
    required: true
  port:
    description: The port that the listeners listen on.
    type: int
    required: true
  address:
    description: The host's own address; needed with O(state=listening) and O(state=stopped).
    type: str
  seconds:
    description: After how long a listener ends by itself; with O(state=measured), how long each direction is measured at most.
    type: float
    default: 1.0
  size:
    description: How many bytes are sent in each direction at most; 0 leaves the bandwidth out.
    type: int
    default: 0
  peers:
    description:
      - The hosts to measure the way to, by name, as M(grey.distributed.grey_federation_config) returns them.
      - C(address) is where the listener is. When it does not answer, the round trip to C(control_port) is taken, where nobody
        needs to listen; a host without one (a witness) is tried at O(port).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Listen on one host of each site
  grey.distributed.grey_link:
    state: listening
    address: 192.0.2.11
    port: 8444
    token: "{{ token }}"
    seconds: 60

- name: Measure from another one
  grey.distributed.grey_link:
    state: measured
    port: 8444
    token: "{{ token }}"
    size: 8388608
    peers:
      aws-east-1: {address: 192.0.2.11, control_port: 8443}
  register: links
"""

RETURN = r"""
listening:
  description: Whether a listener runs, or ran.
  returned: with O(state=listening) and O(state=stopped)
  type: bool
  sample: true
problem:
  description: Why the port could not be had, empty when it could.
  returned: with O(state=listening)
  type: str
  sample: ""
links:
  description:
    - For each of O(peers), the median round trip, how far its clock is ahead and how wrong that may be, all in milliseconds,
      and the bandwidth to it and from it in Mbit/s.
    - C(by) is V(listener), or V(connect) when only the round trip could be measured; C(problem) says why then.
  returned: with O(state=measured)
  type: list
  elements: dict
  sample:
    - host: aws-east-1
      by: listener
      round_trip_ms: 71.3
      offset_ms: 0.4
      offset_error_ms: 35.6
      to_mbit: 412.0
      from_mbit: 398.0
      problem: ""
"""

import dataclasses
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.grey.distributed.plugins.module_utils import _link, _reach
from ansible_collections.grey.distributed.plugins.module_utils._outcome import Outcome, finish


def work(params: dict[str, Any], check: bool) -> Outcome:  # noqa: ARG001 (nothing stays in either mode)
    """Do what the module is for."""
    address, port, token = params["address"], params["port"], params["token"]
    if params["state"] == "listening":
        try:
            _link.start(address, port, token, params["seconds"])
        except OSError as error:
            return Outcome({"listening": False, "problem": os.strerror(error.errno or 0)})
        return Outcome({"listening": True, "problem": ""})
    if params["state"] == "stopped":
        return Outcome({"listening": _link.stop(address, port, token)})
    return Outcome({"links": [_measured(name, peer, params) for name, peer in params["peers"].items()]})


def _measured(name: str, peer: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    found = _link.measure(
        peer["address"], params["port"], params["token"], seconds=params["seconds"], size=params["size"]
    )
    answer = {"host": name, "by": "listener", **dataclasses.asdict(found)}
    if found.problem:
        plain = _reach.reach(
            peer["address"], int(peer["control_port"] or params["port"]), samples=_reach.SAMPLES
        )
        answer |= {"by": "connect", "round_trip_ms": plain.round_trip_ms}
    return answer


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["listening", "measured", "stopped"], "required": True},
            "token": {"type": "str", "required": True, "no_log": True},
            "port": {"type": "int", "required": True},
            "address": {"type": "str"},
            "seconds": {"type": "float", "default": 1.0},
            "size": {"type": "int", "default": 0},
            "peers": {"type": "dict", "default": {}},
        },
        required_if=[("state", "listening", ["address"]), ("state", "stopped", ["address"])],
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
