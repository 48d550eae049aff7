#!/usr/bin/python
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: programs kept running by systemd or supervisord."""

from __future__ import annotations

DOCUMENTATION = r"""
module: grey_programs
short_description: Keep programs running under systemd or supervisord
version_added: 0.2.0
description:
  - Writes what the manager of programs reads (systemd's units, or supervisord's configuration), and waits until the programs
    run.
  - Compares the live state. A program that is stopped, or that runs with an older version of a file it depends on,
    is (re)started, also when an earlier run was interrupted between writing and restarting.
  - With systemd, a unit that is disabled, masked, edited by hand or overridden by a drop-in of its own is put right; what was
    set for all services of the host is left alone. The program C(greyd) is the unit C(greyd.service), any other one
    C(grey-NAME.service).
  - With supervisord, that one is started when it is not running, and anew when it runs with an older configuration.
  - Processes of this deployment that no manager looks after any more are found by a mark in their environment and ended
    first.
author:
  - Grey Distributed contributors (@grey-distributed)
extends_documentation_fragment:
  - grey.distributed.attributes
options:
  state:
    description:
      - V(present) makes the O(programs) run; other programs are left alone.
      - V(absent) stops and forgets the O(programs), or, when there are none, all of this deployment and supervisord itself.
    type: str
    choices: [present, absent]
    default: present
  manager:
    description: What keeps the programs running.
    type: dict
    required: true
    suboptions:
      kind:
        description:
          - V(systemd) needs a host that it runs, and root.
          - V(supervisor) needs neither.
        type: str
        choices: [systemd, supervisor]
        required: true
      root:
        description:
          - The folder below which everything of this deployment lives; empty on a host of its own.
          - With systemd a host runs one deployment, because units are the host's.
        type: str
        default: ""
      run_dir:
        description: Where sockets go, and supervisord's pid file. Below C(/run) systemd makes it at each start.
        type: path
        required: true
      user:
        description:
          - The user the programs run as; empty for the one who connects (root with systemd).
          - With supervisord it can only be the one who connects.
        type: str
        default: ""
      group:
        description: The group they run as with systemd; the user's own when empty.
        type: str
        default: ""
      config_file:
        description: Where supervisord's configuration is written; the programs' files go in C(programs) beside it.
        type: path
      log_dir:
        description: Where supervisord puts the logs, one per program, rotated. With systemd they go to the journal.
        type: path
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
      description:
        description: What it is, for systemd's messages.
        type: str
        default: ""
      command:
        description: The program and its arguments. Needed with O(state=present).
        type: list
        elements: str
        default: []
      after:
        description: The names of programs that it starts after, with systemd.
        type: list
        elements: str
        default: []
      priority:
        description: With supervisord, lower ones are started earlier and stopped later.
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
      writable:
        description: The folders that it may write, with systemd; everything else is read-only for it.
        type: list
        elements: path
        default: []
      ready:
        description:
          - A URL, of this host, that answers 200 once the program is of use; empty to wait only until it runs.
          - One that ends again and again meanwhile is given up early.
        type: str
        default: ""
  timeout:
    description: How many seconds the programs may take until they run.
    type: int
    default: 30
  ready_timeout:
    description: How long a program may take from then on to be ready, in seconds.
    type: int
    default: 60
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
  grey.distributed.grey_programs:
    manager:
      kind: systemd
      run_dir: /run/grey
      user: grey
      group: grey
    programs:
      - name: greyd
        description: Grey node
        command: [/opt/grey/current/bin/greyd, run, --config, /etc/grey/grey.yaml]
        depends_on: [/etc/grey/grey.yaml]
        writable: [/var/lib/grey]

- name: Keep greyd running where there is no systemd
  grey.distributed.grey_programs:
    manager:
      kind: supervisor
      config_file: /etc/grey/supervisord.conf
      log_dir: /var/log/grey
      run_dir: /run/grey
      supervisord: /opt/grey/current/bin/supervisord
    programs:
      - name: greyd
        command: [/opt/grey/current/bin/greyd, run, --config, /etc/grey/grey.yaml]
        depends_on: [/etc/grey/grey.yaml]

- name: Stop and remove everything
  grey.distributed.grey_programs:
    state: absent
    manager:
      kind: systemd
      run_dir: /run/grey
"""

RETURN = r"""
orphans_ended:
  description: Processes of this deployment without a manager that were ended, or would be in check mode.
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
  description: By name, the state in the manager's own word, the process number and whether it was (re)started.
  returned: success
  type: dict
  sample: {greyd: {state: running, pid: 4712, restarted: false}}
program:
  description: The program that did not come up.
  returned: when a program does not run
  type: str
  sample: greyd
log:
  description: Its log, a file or the command that shows it; the end of it is in the message.
  returned: when a program does not run
  type: str
  sample: journalctl --unit=greyd.service
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.grey.distributed.plugins.module_utils._files import File, Owner
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError, Outcome, finish
from ansible_collections.grey.distributed.plugins.module_utils._programs import Program
from ansible_collections.grey.distributed.plugins.module_utils._supervisor import Supervisor
from ansible_collections.grey.distributed.plugins.module_utils._supervisor_conf import Layout, user_fault
from ansible_collections.grey.distributed.plugins.module_utils._systemd import Systemd
from ansible_collections.grey.distributed.plugins.module_utils._systemd_unit import Service


def work(params: dict[str, Any], check: bool) -> Outcome:
    """Do what the module is for."""
    manager = _manager(params["manager"], params["state"], check)
    owner = Owner(params["manager"]["user"], params["manager"]["group"])
    programs = [_program(item, owner) for item in params["programs"]]
    if params["state"] == "absent":
        return manager.absent([program.name for program in programs])
    for program in programs:
        if not program.command:
            raise GreyError(f"programs: {program.name}: wanted a command, found none")
    return manager.present(
        programs,
        timeout_seconds=params["timeout"],
        ready_seconds=params["ready_timeout"],
        inputs_changed=params["inputs_changed"],
        defer_restarts=params["defer_restarts"],
    )


def _manager(said: dict[str, Any], state: str, check: bool) -> Systemd | Supervisor:
    if said["kind"] == "systemd":
        return Systemd(Service(said["root"], said["run_dir"], said["user"], said["group"]), check=check)
    if state == "present" and not said["supervisord"]:
        raise GreyError("manager: wanted supervisord, the program, for kind supervisor; found none")
    fault = user_fault(said["user"])
    if fault is not None:
        raise GreyError(fault)
    layout = Layout(said["root"], said["log_dir"], said["run_dir"], said["config_file"])
    return Supervisor(layout, said["supervisord"] or "", check=check)


def _program(item: dict[str, Any], owner: Owner) -> Program:
    return Program(
        item["name"],
        tuple(item["command"]),
        item["priority"],
        item["stop_seconds"],
        tuple(item["depends_on"]),
        tuple(File(file["path"], file["content"], 0o644, owner=owner) for file in item["files"]),
        tuple(sorted((name, str(value)) for name, value in item["environment"].items())),
        item["description"],
        tuple(item["after"]),
        tuple(item["writable"]),
        item["ready"],
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "manager": {
                "type": "dict",
                "required": True,
                "options": {
                    "kind": {"type": "str", "choices": ["systemd", "supervisor"], "required": True},
                    "root": {"type": "str", "default": ""},
                    "run_dir": {"type": "path", "required": True},
                    "user": {"type": "str", "default": ""},
                    "group": {"type": "str", "default": ""},
                    "config_file": {"type": "path"},
                    "log_dir": {"type": "path"},
                    "supervisord": {"type": "path"},
                },
                "required_if": [("kind", "supervisor", ("config_file", "log_dir"))],
            },
            "programs": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "description": {"type": "str", "default": ""},
                    "command": {"type": "list", "elements": "str", "default": []},
                    "after": {"type": "list", "elements": "str", "default": []},
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
                    "writable": {"type": "list", "elements": "path", "default": []},
                    "ready": {"type": "str", "default": ""},
                },
            },
            "timeout": {"type": "int", "default": 30},
            "ready_timeout": {"type": "int", "default": 60},
            "inputs_changed": {"type": "bool", "default": False},
            "defer_restarts": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
