#!/usr/bin/python
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: the status of a federation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: grey_federation_info
short_description: Get the status of a federation
version_added: 0.1.0
description:
  - Asks the federation through C(grey-ctl federation status). It fails while there is no primary;
    M(grey.distributed.grey_federation) waits for one.
author:
  - Grey Distributed contributors (@grey-distributed)
extends_documentation_fragment:
  - grey.distributed.attributes.read_only
  - grey.distributed.control
options:
  table:
    description: Whether to return the table that people read, too.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Get the status
  grey.distributed.grey_federation_info:
    config: /srv/grey/controller/ctl.yaml
    federation: global-grey
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
status:
  description: The status document of the control plane.
  returned: success
  type: dict
  sample: {federation: global-grey, epoch: 1, primary: aws-east}
table:
  description: The table, when asked for, else an empty text.
  returned: success
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.grey.distributed.plugins.module_utils import _node
from ansible_collections.grey.distributed.plugins.module_utils._outcome import Outcome, finish


def work(params: dict[str, Any], check: bool) -> Outcome:  # noqa: ARG001 (nothing is changed in either mode)
    """Do what the module is for."""
    control = _node.Control(params["grey_ctl"], params["config"], params["federation"])
    status = control.status(online=(), wait_seconds=0)
    return Outcome({"status": status, "table": control.table() if params["table"] else ""})


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **_node.CONTROL_OPTIONS,
            "table": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
