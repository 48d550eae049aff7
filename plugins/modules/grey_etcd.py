#!/usr/bin/python
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: an etcd program on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: grey_etcd
short_description: Find or fetch an etcd program on the controller
version_added: 0.2.0
description:
  - Returns the path of an etcd 3.4 or newer, from the first of O(sources) that has one.
  - A release archive is used only when its SHA-256 is the pinned one. No source needs root, and each takes a bounded time.
author:
  - Grey Distributed contributors (@grey-distributed)
extends_documentation_fragment:
  - grey.distributed.attributes
options:
  cache:
    description: The folder that fetched programs are kept in, one per architecture.
    type: path
    required: true
  architecture:
    description: The architecture it is for, such as V(x86_64) or V(aarch64); the controller's when none is given.
    type: str
  sources:
    description:
      - Where to look, in this order.
      - V(path) is the controller's C(PATH); V(kept) what an earlier run fetched; V(bundle) the O(bundle); V(archive) the
        project's release archive; V(package) the package of the controller's Debian or Ubuntu, unpacked without root.
      - V(path) and V(package) are for the controller itself, or hosts like it.
    type: list
    elements: str
    choices: [path, kept, bundle, archive, package]
    default: [kept, bundle, archive]
  bundle:
    description: A bundle that M(grey.distributed.grey_bundle) wrote.
    type: path
  archive:
    description: A release archive on the controller, instead of one from O(mirrors).
    type: path
  mirrors:
    description: Where the project's releases lie, instead of its own two places.
    type: list
    elements: str
    default: []
  sha256:
    description: The SHA-256 of the archive, for another version or architecture than the collection pins.
    type: str
"""

EXAMPLES = r"""
- name: Have the pinned etcd for hosts on arm64
  grey.distributed.grey_etcd:
    cache: ~/.cache/grey-distributed
    architecture: aarch64
    mirrors: [https://mirror.example.com/etcd]
  delegate_to: localhost
  run_once: true
  register: etcd
"""

RETURN = r"""
path:
  description: The program on the controller; empty in check mode when it would be fetched.
  returned: success
  type: str
  sample: /home/me/.cache/grey-distributed/etcd/amd64/release-archive/etcd
version:
  description: Its version; empty when it is for another architecture and could not be run here.
  returned: success
  type: str
  sample: 3.5.21
source:
  description: Where it is from.
  returned: success
  type: str
  sample: fetched earlier from a release-archive
reasons:
  description: By source, why it could not be had.
  returned: when none could be had
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.grey.distributed.plugins.module_utils import _etcd
from ansible_collections.grey.distributed.plugins.module_utils._bundle import Bundle
from ansible_collections.grey.distributed.plugins.module_utils._files import explain
from ansible_collections.grey.distributed.plugins.module_utils._outcome import (
    Change,
    GreyError,
    Outcome,
    finish,
)

_HERE = ("path", "kept")


def work(params: dict[str, Any], check: bool) -> Outcome:
    """Do what the module is for."""
    machine = params["architecture"]
    architecture = _etcd.architecture_of(machine) if machine else _etcd.own_architecture()
    folder = Path(params["cache"]) / "etcd" / architecture
    finder = _etcd.Finder(
        folder,
        architecture,
        archive=params["archive"],
        mirrors=params["mirrors"] or _etcd.MIRRORS,
        sha256=params["sha256"],
        bundle=Bundle(params["bundle"]) if params["bundle"] else None,
    )
    here = [source for source in params["sources"] if source in _HERE]
    try:
        if check:
            found = finder.look(here)
            if found is None:
                change = Change(str(folder), "", f"etcd for {architecture}")
                return Outcome({"path": "", "version": "", "source": "would be fetched"}, [change])
        else:
            found = finder.choose(params["sources"])
    except OSError as error:
        raise explain(error, folder) from error
    except GreyError as error:
        raise GreyError(f"{error}\n{_etcd.advice(architecture)}", **error.details) from error
    outcome = Outcome({"path": str(found.path), "version": found.version, "source": found.source})
    if found.is_new:
        outcome.add(Change(str(folder), "", f"etcd {found.version} {found.source}"))
    return outcome


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "cache": {"type": "path", "required": True},
            "architecture": {"type": "str"},
            "sources": {
                "type": "list",
                "elements": "str",
                "choices": list(_etcd.SOURCES),
                "default": ["kept", "bundle", "archive"],
            },
            "bundle": {"type": "path"},
            "archive": {"type": "path"},
            "mirrors": {"type": "list", "elements": "str", "default": []},
            "sha256": {"type": "str"},
        },
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
