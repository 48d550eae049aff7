#!/usr/bin/python
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: a bundle for controllers without a network."""

from __future__ import annotations

DOCUMENTATION = r"""
module: grey_bundle
short_description: Write one file with all that a deployment would fetch
version_added: 0.2.0
description:
  - Writes a bundle, one tar with a wheelhouse for each of the O(pythons) and O(architectures), and the O(etcd)
    programs. With it M(grey.distributed.grey_wheelhouse) and M(grey.distributed.grey_etcd) need no network.
  - The same collection, options and programs give the same bytes. A bundle belongs to the release it was made with.
author:
  - Grey Distributed contributors (@grey-distributed)
extends_documentation_fragment:
  - grey.distributed.attributes
options:
  dest:
    description: The bundle's file.
    type: path
    required: true
  collection:
    description: The collection's folder, which holds the lock and the node's wheel or sources.
    type: path
    required: true
  cache:
    description: The folder that wheelhouses and etcd are kept in.
    type: path
    required: true
  pythons:
    description: The Python versions of the hosts, V(3.11) to V(3.14).
    type: list
    elements: str
    required: true
  architectures:
    description: The architectures of the hosts, V(x86_64) and V(aarch64). Each Python gets a wheelhouse for each of them.
    type: list
    elements: str
    required: true
  etcd:
    description: By architecture (V(x86_64), V(aarch64)), an etcd program on the controller, as RV(grey.distributed.grey_etcd#module:path).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Write a bundle for Debian 12 hosts
  grey.distributed.grey_bundle:
    dest: /srv/grey-bundle.tar
    collection: "{{ grey_collection_dir }}"
    cache: ~/.cache/grey-distributed
    pythons: ["3.11"]
    architectures: [x86_64]
    etcd:
      x86_64: "{{ etcd.path }}"
  delegate_to: localhost
"""

RETURN = r"""
path:
  description: The bundle's file.
  returned: success
  type: str
  sample: /srv/grey-bundle.tar
release:
  description: The release that it holds.
  returned: success
  type: str
  sample: 0.2.0-1a2b3c4d
contents:
  description: The files in it with their SHA-256, by kind and target; empty in check mode.
  returned: success
  type: dict
"""

import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.grey.distributed.plugins.module_utils import _bundle, _etcd, _interpreter
from ansible_collections.grey.distributed.plugins.module_utils._outcome import (
    Change,
    GreyError,
    Outcome,
    finish,
)
from ansible_collections.grey.distributed.plugins.module_utils._wheelhouse import Wheelhouses, release_of


def work(params: dict[str, Any], check: bool) -> Outcome:
    """Do what the module is for."""
    targets = _interpreter.targets(
        {"python": python, "architecture": architecture}
        for python in params["pythons"]
        for architecture in params["architectures"]
    )
    release = release_of(Path(params["collection"]))
    houses = Wheelhouses(release, params["cache"])
    dest = Path(params["dest"])
    outcome = Outcome({"path": str(dest), "release": release.name, "contents": {}})
    if check:
        if not dest.exists() or not all(houses.has(target) for target in targets):
            outcome.add(Change(str(dest), "", f"a bundle of release {release.name}"))
        return outcome
    with tempfile.TemporaryDirectory(prefix="grey-bundle-") as folder:
        parts: dict[str, dict[str, _bundle.Part]] = {"wheelhouses": {}, "etcd": {}}
        for target in targets:
            path = houses.ensure(target)
            parts["wheelhouses"][str(target)] = _bundle.Part(f"wheelhouses/{path.name}", path)
        for machine, program in params["etcd"].items():
            architecture = _etcd.architecture_of(machine)
            if not Path(program).is_file():
                raise GreyError(
                    f"etcd: {machine}: wanted a program on the controller, found no file {program}"
                )
            path = _etcd.pack(Path(program), Path(folder) / f"etcd-{architecture}.tar.gz")
            parts["etcd"][architecture] = _bundle.Part(f"etcd/{path.name}", path)
        index = _bundle.index_of(release.version, release.name, parts)
        outcome.result["contents"] = {kind: index[kind] for kind in parts}
        if not dest.is_file() or _index(dest) != index:
            outcome.add(Change(str(dest), "", f"a bundle of release {release.name}"))
            _bundle.write(dest, index, parts)
    return outcome


def _index(path: Path) -> dict[str, Any] | None:
    try:
        return _bundle.read_index(path)
    except GreyError:
        return None  # not a bundle, or half of one: it is written anew


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "collection": {"type": "path", "required": True},
            "cache": {"type": "path", "required": True},
            "pythons": {"type": "list", "elements": "str", "required": True},
            "architectures": {"type": "list", "elements": "str", "required": True},
            "etcd": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
