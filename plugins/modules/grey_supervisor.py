#!/usr/bin/python
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: programs kept running by supervisord."""

from __future__ import annotations

DOCUMENTATION = r"""
module: grey_supervisor
short_description: Keep programs running under supervisord
version_added: 0.1.0
description:
  - Writes supervisord's configuration, starts supervisord if it is not running, and waits until the programs run.
  - Compares the live state. A program that is stopped, or that runs with an older version of a file it depends on,
    is (re)started, also when an earlier run was interrupted between writing and restarting.
  - Processes that a killed supervisord left behind are found by a mark in their environment and ended first.
author:
  - Grey Distributed contributors (@grey-distributed)
extends_documentation_fragment:
  - grey.distributed.attributes
options:
  state:
    description:
      - V(present) makes the O(programs) run; other programs are left alone.
      - V(absent) stops and forgets the O(programs), or, when there are none, everything and supervisord itself.
    type: str
    choices: [present, absent]
    default: present
  root:
    description: The folder below which everything of this deployment lives; empty on a host of its own.
    type: str
    default: ""
  config_file:
    description: Where supervisord's configuration is written; the programs' files go in C(programs) beside it.
    type: path
    required: true
  log_dir:
    description: Where the logs go, one per program, rotated.
    type: path
    required: true
  run_dir:
    description: Where the socket and the pid file go.
    type: path
    required: true
  supervisord:
    description: The supervisord program. Needed with O(state=present).
    type: path
  programs:
    description: The programs.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Its name, of small letters, digits and hyphens.
        type: str
        required: true
      command:
        description: The program and its arguments. Needed with O(state=present).
        type: list
        elements: str
        default: []
      priority:
        description: Lower ones are started earlier and stopped later.
        type: int
        default: 100
      stop_seconds:
        description: How long it may take to end before it is killed.
        type: int
        default: 20
      depends_on:
        description: Files that it reads only when it starts. A change in one of them restarts it.
        type: list
        elements: path
        default: []
      environment:
        description: Further variables of its environment.
        type: dict
        default: {}
      files:
        description: Its own configuration, written with mode 0644 before it is started. A change restarts it.
        type: list
        elements: dict
        default: []
        suboptions:
          path:
            description: The absolute path.
            type: path
            required: true
          content:
            description: The whole content.
            type: str
            required: true
  timeout:
    description: How many seconds the programs may take until they run.
    type: int
    default: 30
  inputs_changed:
    description: In check mode, whether an earlier step would have changed a file that the programs depend on.
    type: bool
    default: false
  defer_restarts:
    description:
      - Start what is down, but leave alone what runs with an older configuration and name it in RV(deferred),
        so that a play can restart it one host at a time.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Keep greyd running
  grey.distributed.grey_supervisor:
    config_file: /etc/grey/supervisord.conf
    log_dir: /var/log/grey
    run_dir: /run/grey
    supervisord: /opt/grey/current/bin/supervisord
    programs:
      - name: greyd
        command: [/opt/grey/current/bin/greyd, run, --config, /etc/grey/grey.yaml]
        depends_on: [/etc/grey/grey.yaml]

- name: Stop everything
  grey.distributed.grey_supervisor:
    state: absent
    config_file: /etc/grey/supervisord.conf
    log_dir: /var/log/grey
    run_dir: /run/grey
"""

RETURN = r"""
orphans_ended:
  description: Processes of an earlier supervisord that were ended, or would be in check mode.
  returned: success
  type: list
  elements: dict
  sample: [{pid: 4711, name: greyd}]
deferred:
  description: Programs that run with an older configuration and were left alone.
  returned: success
  type: list
  elements: str
  sample: []
programs:
  description: By name, the state, the process number and whether it was (re)started.
  returned: success
  type: dict
  sample: {greyd: {state: RUNNING, pid: 4712, restarted: false}}
program:
  description: The program that did not come up.
  returned: when a program does not run
  type: str
  sample: greyd
log_file:
  description: Its log.
  returned: when a program does not run
  type: str
  sample: /var/log/grey/greyd.log
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.grey.distributed.plugins.module_utils._files import File
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError, Outcome, finish
from ansible_collections.grey.distributed.plugins.module_utils._supervisor import Supervisor
from ansible_collections.grey.distributed.plugins.module_utils._supervisor_conf import Layout, Program


def work(params: dict[str, Any], check: bool) -> Outcome:
    """Do what the module is for."""
    layout = Layout(params["root"], params["log_dir"], params["run_dir"], params["config_file"])
    programs = [
        Program(
            item["name"],
            tuple(item["command"]),
            item["priority"],
            item["stop_seconds"],
            tuple(item["depends_on"]),
            tuple(File(file["path"], file["content"], 0o644) for file in item["files"]),
            tuple(sorted((name, str(value)) for name, value in item["environment"].items())),
        )
        for item in params["programs"]
    ]
    supervisor = Supervisor(layout, params["supervisord"] or "", check=check)
    if params["state"] == "absent":
        return supervisor.absent([program.name for program in programs])
    for program in programs:
        if not program.command:
            raise GreyError(f"programs: {program.name}: wanted a command, found none")
    return supervisor.present(
        programs,
        timeout_seconds=params["timeout"],
        inputs_changed=params["inputs_changed"],
        defer_restarts=params["defer_restarts"],
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "root": {"type": "str", "default": ""},
            "config_file": {"type": "path", "required": True},
            "log_dir": {"type": "path", "required": True},
            "run_dir": {"type": "path", "required": True},
            "supervisord": {"type": "path"},
            "programs": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "command": {"type": "list", "elements": "str", "default": []},
                    "priority": {"type": "int", "default": 100},
                    "stop_seconds": {"type": "int", "default": 20},
                    "depends_on": {"type": "list", "elements": "path", "default": []},
                    "environment": {"type": "dict", "default": {}},
                    "files": {
                        "type": "list",
                        "elements": "dict",
                        "default": [],
                        "options": {
                            "path": {"type": "path", "required": True},
                            "content": {"type": "str", "required": True},
                        },
                    },
                },
            },
            "timeout": {"type": "int", "default": 30},
            "inputs_changed": {"type": "bool", "default": False},
            "defer_restarts": {"type": "bool", "default": False},
        },
        required_if=[("state", "present", ("supervisord",))],
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
