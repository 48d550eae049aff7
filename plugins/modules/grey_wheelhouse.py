#!/usr/bin/python
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: wheelhouses on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: grey_wheelhouse
short_description: Keep wheelhouses of the node's release on the controller
version_added: 0.2.0
description:
  - Runs on the controller. Makes one file per Python version and architecture that holds the node's wheel and all that
    it depends on, from the package index that C(pip) is set up for or from a bundle. M(grey.distributed.grey_release)
    installs a release from it on a host without any network.
  - Every wheel is checked against the SHA-256 digests in the collection's lock. A wheelhouse that is there is used
    again, and then nothing is fetched.
  - Needs C(pip) for the controller's Python, unless O(bundle) is given.
author:
  - Grey Distributed contributors (@grey-distributed)
extends_documentation_fragment:
  - grey.distributed.attributes
options:
  collection:
    description: The collection's folder, which holds the lock and the node's wheel or sources.
    type: path
    required: true
  cache:
    description: The folder that wheelhouses are kept in.
    type: path
    required: true
  bundle:
    description:
      - A bundle that M(grey.distributed.grey_bundle) wrote.
      - With it nothing is ever fetched from a network.
    type: path
  targets:
    description: What wheelhouses are wanted for; each is made once.
    type: list
    elements: dict
    default: []
    suboptions:
      python:
        description: The Python version, V(3.11) to V(3.14).
        type: str
        required: true
      architecture:
        description: The architecture, V(x86_64) or V(aarch64).
        type: str
        required: true
  controller:
    description: Whether the controller's own Python is a target too.
    type: bool
    default: false
seealso:
  - module: grey.distributed.grey_release
  - module: grey.distributed.grey_bundle
"""

EXAMPLES = r"""
- name: Have what a Debian 12 host on amd64 needs
  grey.distributed.grey_wheelhouse:
    collection: "{{ grey_collection_dir }}"
    cache: ~/.cache/grey-distributed
    targets:
      - python: "3.11"
        architecture: x86_64
  delegate_to: localhost
  run_once: true
  register: wheelhouse

- name: The same without a network
  grey.distributed.grey_wheelhouse:
    collection: "{{ grey_collection_dir }}"
    cache: ~/.cache/grey-distributed
    bundle: /srv/grey-bundle-0.2.0.tar
    targets:
      - python: "3.11"
        architecture: x86_64
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
release:
  description: The release's name, made of its version and the beginning of a digest over wheel and lock.
  returned: success
  type: str
  sample: 0.2.0-1a2b3c4d
version:
  description: The node's version.
  returned: success
  type: str
  sample: 0.2.0
archives:
  description: By target, the wheelhouse's file on the controller.
  returned: success
  type: dict
  sample: {3.11-x86_64: /home/me/.cache/grey-distributed/wheelhouses/grey-0.2.0-1a2b3c4d-3.11-x86_64.tar}
controller:
  description: The wheelhouse's file for the controller's own Python.
  returned: when O(controller=true)
  type: str
  sample: /home/me/.cache/grey-distributed/wheelhouses/grey-0.2.0-1a2b3c4d-3.11-x86_64.tar
fetched:
  description: The targets whose wheelhouses were not there yet.
  returned: success
  type: list
  elements: str
  sample: [3.11-x86_64]
"""

import sys
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.grey.distributed.plugins.module_utils import _interpreter
from ansible_collections.grey.distributed.plugins.module_utils._bundle import Bundle
from ansible_collections.grey.distributed.plugins.module_utils._outcome import (
    Change,
    GreyError,
    Outcome,
    finish,
)
from ansible_collections.grey.distributed.plugins.module_utils._wheelhouse import Wheelhouses, release_of


def work(params: dict[str, Any], check: bool) -> Outcome:
    """Do what the module is for."""
    targets = _interpreter.targets(params["targets"])
    own = None
    if params["controller"]:
        python = _interpreter.look(sys.executable)
        if faults := python.faults():
            raise GreyError(
                "the controller cannot have its own grey-ctl: "
                + "; ".join(faults)
                + "; or install the node's wheel "
                "yourself (pip install) and name its grey-ctl with -e grey_ctl=PATH"
            )
        own = python.target
        targets = list(dict.fromkeys([*targets, own]))
    release = release_of(Path(params["collection"]))
    houses = Wheelhouses(release, params["cache"], Bundle(params["bundle"]) if params["bundle"] else None)
    wanted = [target for target in targets if not houses.has(target)]
    if not check:
        for target in wanted:
            houses.ensure(target)
    outcome = Outcome(
        {
            "release": release.name,
            "version": release.version,
            "archives": {str(target): str(houses.path(target)) for target in targets},
            "fetched": [str(target) for target in wanted],
        },
        [Change(str(houses.path(target)), "", f"the wheelhouse for {target}") for target in wanted],
    )
    if own is not None:
        outcome.result["controller"] = str(houses.path(own))
    return outcome


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "collection": {"type": "path", "required": True},
            "cache": {"type": "path", "required": True},
            "bundle": {"type": "path"},
            "targets": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "python": {"type": "str", "required": True},
                    "architecture": {"type": "str", "required": True},
                },
            },
            "controller": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
