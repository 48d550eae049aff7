#!/usr/bin/python
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: the node's releases on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: grey_release
short_description: Install a release of the node beside the others and switch to it
version_added: 0.2.0
description:
  - Installs a release from its wheelhouse into a Python environment of its own, C(releases/NAME) below O(directory), and
    lets the link C(current) point to it in one step.
  - Needs Python 3.11 or newer on the host, and neither C(pip), C(ensurepip) nor a network. Every wheel is checked against
    the SHA-256 digests in the wheelhouse.
  - A release whose installation was cut short, or whose Python is gone, is installed anew.
  - The link C(previous) then points to the release that was current before, so that the way back is one step.
author:
  - Grey Distributed contributors (@grey-distributed)
extends_documentation_fragment:
  - grey.distributed.attributes
options:
  directory:
    description: The folder that holds the releases.
    type: path
    default: /opt/grey
  release:
    description: The release's name, as M(grey.distributed.grey_wheelhouse) returned it.
    type: str
    required: true
  archive:
    description: The wheelhouse on this host. Needed when the release is not installed yet.
    type: path
  remove_archive:
    description: Whether the file is removed when the release is installed.
    type: bool
    default: false
  python:
    description: The Python to make the environment with; the module's own when none is given.
    type: path
  activate:
    description: Whether C(current) links to the release afterwards.
    type: bool
    default: true
  trial:
    description:
      - Whether the release has to prove itself yet, with O(activate=true). It is then marked, nothing is removed, and what was
        current before stays the way back, also when a later release takes the place of one that never came up.
      - A call for the current release with V(false) says that it did, and removes the mark.
    type: bool
    default: false
  keep:
    description:
      - How many releases stay, with O(activate=true) and O(trial=false). The current one, the one before and those that programs of
        this host run from always stay, and of the others those that were installed last.
    type: int
    default: 3
seealso:
  - module: grey.distributed.grey_wheelhouse
"""

EXAMPLES = r"""
- name: Copy the wheelhouse
  ansible.builtin.copy:
    src: "{{ wheelhouse.archives['3.11-x86_64'] }}"
    dest: /opt/grey/wheelhouse.tar
    mode: "0644"

- name: Install the release and switch to it
  grey.distributed.grey_release:
    release: "{{ wheelhouse.release }}"
    archive: /opt/grey/wheelhouse.tar
    remove_archive: true
"""

RETURN = r"""
release:
  description: The release's name.
  returned: success
  type: str
  sample: 0.2.0-1a2b3c4d
previous:
  description: The release that C(current) linked to before; none on a new host.
  returned: success
  type: str
  sample: 0.1.0-9f8e7d6c
installed:
  description: Whether the release was installed, or would be in check mode.
  returned: success
  type: bool
  sample: true
bin:
  description: The folder of the release's programs.
  returned: success
  type: str
  sample: /opt/grey/releases/0.2.0-1a2b3c4d/bin
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.grey.distributed.plugins.module_utils._outcome import Outcome, finish
from ansible_collections.grey.distributed.plugins.module_utils._release import Releases


def work(params: dict[str, Any], check: bool) -> Outcome:
    """Do what the module is for."""
    outcome = Releases(params["directory"]).ensure(
        params["release"],
        params["archive"],
        params["python"],
        activate=params["activate"],
        trial=params["trial"],
        keep=params["keep"],
        check=check,
    )
    if params["remove_archive"] and params["archive"] and not check:
        Path(params["archive"]).unlink(missing_ok=True)
    return outcome


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": "/opt/grey"},
            "release": {"type": "str", "required": True},
            "archive": {"type": "path"},
            "remove_archive": {"type": "bool", "default": False},
            "python": {"type": "path"},
            "activate": {"type": "bool", "default": True},
            "trial": {"type": "bool", "default": False},
            "keep": {"type": "int", "default": 3},
        },
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
