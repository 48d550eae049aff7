#!/usr/bin/python
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: folders and files in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: grey_files
short_description: Keep a list of folders and files in one call
version_added: 0.1.0
description:
  - Makes folders, writes files and removes paths, all of a host in one call.
  - A file is replaced atomically and made durable, so that a reader or a crash sees the old content or the new one.
author:
  - Grey Distributed contributors (@grey-distributed)
extends_documentation_fragment:
  - grey.distributed.attributes
options:
  folders:
    description: Folders that must exist, with their parents.
    type: list
    elements: path
    default: []
  folder_mode:
    description: Octal permission bits of O(folders) and O(plain_folders).
    type: str
    default: "0755"
  plain_folders:
    description: Like O(folders), but whose they are is left alone, for example because programs lie in them.
    type: list
    elements: path
    default: []
  owner:
    description: The user that O(folders) and O(files) belong to; when empty, that is left alone.
    type: str
    default: ""
  group:
    description: The group that O(folders) and O(files) belong to; when empty, that is left alone.
    type: str
    default: ""
  files:
    description: Files that must exist with exactly this content.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The absolute path.
        type: path
        required: true
      content:
        description: The whole content, as text in UTF-8.
        type: str
        required: true
      mode:
        description: Octal permission bits.
        type: str
        default: "0644"
      secret:
        description: Whether the content is kept out of the diff.
        type: bool
        default: false
  absent:
    description: Files and folders that must not exist. Folders are removed with all they hold.
    type: list
    elements: path
    default: []
  prune:
    description: Folders that are removed when they are empty after everything else, in this order.
    type: list
    elements: path
    default: []
"""

EXAMPLES = r"""
- name: Write what the node reads
  grey.distributed.grey_files:
    folders: [/etc/grey]
    owner: grey
    group: grey
    files:
      - path: /etc/grey/grey.yaml
        content: "{{ content }}"
        mode: "0640"
"""

RETURN = r"""
paths:
  description: The paths that were changed, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [/etc/grey/grey.yaml]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.grey.distributed.plugins.module_utils import _files
from ansible_collections.grey.distributed.plugins.module_utils._outcome import Outcome, finish


def work(params: dict[str, Any], check: bool) -> Outcome:
    """Do what the module is for."""
    folder_mode = _files.parse_mode(params["folder_mode"])
    owner = _files.Owner(params["owner"], params["group"])
    folders = [
        *(_files.Folder(path, folder_mode, owner) for path in params["folders"]),
        *(_files.Folder(path, folder_mode) for path in params["plain_folders"]),
    ]
    files = [
        _files.File(item["path"], item["content"], _files.parse_mode(item["mode"]), item["secret"], owner)
        for item in params["files"]
    ]
    outcome = Outcome()
    for folder in folders:
        outcome.add(_files.ensure_folder(folder, check=check))
    for file in files:
        outcome.add(_files.ensure_file(file, check=check))
    for path in params["absent"]:
        outcome.add(_files.ensure_absent(path, check=check))
    for path in params["prune"]:
        outcome.add(_files.prune(path, {change.subject for change in outcome.changes}, check=check))
    outcome.result["paths"] = [change.subject for change in outcome.changes]
    return outcome


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "folders": {"type": "list", "elements": "path", "default": []},
            "folder_mode": {"type": "str", "default": "0755"},
            "plain_folders": {"type": "list", "elements": "path", "default": []},
            "owner": {"type": "str", "default": ""},
            "group": {"type": "str", "default": ""},
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str", "required": True},
                    "mode": {"type": "str", "default": "0644"},
                    "secret": {"type": "bool", "default": False},
                },
            },
            "absent": {"type": "list", "elements": "path", "default": []},
            "prune": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
