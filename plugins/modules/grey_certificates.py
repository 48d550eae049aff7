#!/usr/bin/python
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: a host's keys and certificates."""

from __future__ import annotations

DOCUMENTATION = r"""
module: grey_certificates
short_description: Make keys on a host, ask for certificates and put them in place
version_added: 0.1.0
description:
  - Keys are made on the host with mode 0600 and never leave it; only signing requests are returned.
  - Modes and owners of what is there already are corrected with O(state=requested).
  - A new key waits beside the old one until its certificate is there, then both are exchanged.
  - Needs the Python library C(cryptography) on the host, in the module's own Python or in O(python).
author:
  - Grey Distributed contributors (@grey-distributed)
extends_documentation_fragment:
  - grey.distributed.attributes
options:
  state:
    description:
      - V(requested) makes a key and a request for each certificate that is missing, wrong or near its end.
      - V(installed) puts O(issued) certificates and the authorities in place.
    type: str
    choices: [requested, installed]
    required: true
  certificates:
    description: The certificates that the host should have.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What it is called between host and controller.
        type: str
        required: true
      authority:
        description: The authority that signs it.
        type: str
        required: true
      common_name:
        description: The common name inside.
        type: str
        required: true
      dns:
        description: The DNS names inside.
        type: list
        elements: str
        default: []
      addresses:
        description: The IP addresses inside.
        type: list
        elements: str
        default: []
  files:
    description: By certificate, the paths C(cert_file), C(key_file) and C(ca_file).
    type: dict
    required: true
  authorities:
    description: By authority, its certificate in PEM; an empty text in check mode when it does not exist yet.
    type: dict
    required: true
  issued:
    description: The certificates that were issued, PEM by name; empty texts in check mode.
    type: dict
    default: {}
  owner:
    description: The user that keys and certificates belong to; when empty, that is left alone.
    type: str
    default: ""
  group:
    description: The group that they belong to; when empty, that is left alone.
    type: str
    default: ""
  python:
    description:
      - A Python on the host that has C(cryptography), such as that of the node's release. The module runs again with it when
        its own Python lacks the library.
      - In check mode it need not be there yet.
    type: path
"""

EXAMPLES = r"""
- name: Ask for what is missing
  grey.distributed.grey_certificates:
    state: requested
    certificates:
      - name: federation
        authority: federation
        common_name: aws-east.grey.internal
        dns: [aws-east.grey.internal, grey-east.example.com]
    files:
      federation:
        cert_file: /etc/grey/federation-cert.pem
        key_file: /etc/grey/federation-key.pem
        ca_file: /etc/grey/federation-ca.pem
    authorities: "{{ authority.authorities }}"
  register: requested

- name: Put the certificates in place, with what was asked for above
  grey.distributed.grey_certificates:
    state: installed
    certificates: "{{ wanted_certificates }}"
    files: "{{ certificate_files }}"
    authorities: "{{ authority.authorities }}"
    issued: "{{ signed.certificates[inventory_hostname] }}"
"""

RETURN = r"""
requests:
  description: For each certificate to be issued, its name, the request in PEM and the reasons.
  returned: when O(state=requested)
  type: list
  elements: dict
  sample: [{name: federation, csr: "-----BEGIN CERTIFICATE REQUEST-----...", reasons: [missing]}]
stale_bundles:
  description: Certificates whose authority on the host differs.
  returned: when O(state=requested)
  type: list
  elements: str
pending:
  description: Whether O(state=installed) has anything to do.
  returned: when O(state=requested)
  type: bool
installed:
  description: The names of the certificates that were put in place.
  returned: when O(state=installed)
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.common.respawn import has_respawned, respawn_module
from ansible_collections.grey.distributed.plugins.module_utils import _certificates, _x509
from ansible_collections.grey.distributed.plugins.module_utils._outcome import Outcome, finish


def work(params: dict[str, Any], check: bool) -> Outcome:
    """Do what the module is for."""
    wanted = [_certificates.wanted(item, params) for item in params["certificates"]]
    if params["state"] == "requested":
        return _certificates.request(wanted, check=check)
    return _certificates.install(wanted, params["issued"], check=check)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["requested", "installed"], "required": True},
            "certificates": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "authority": {"type": "str", "required": True},
                    "common_name": {"type": "str", "required": True},
                    "dns": {"type": "list", "elements": "str", "default": []},
                    "addresses": {"type": "list", "elements": "str", "default": []},
                },
            },
            "files": {"type": "dict", "required": True},
            "authorities": {"type": "dict", "required": True},
            "issued": {"type": "dict", "default": {}},
            "owner": {"type": "str", "default": ""},
            "group": {"type": "str", "default": ""},
            "python": {"type": "path"},
        },
        supports_check_mode=True,
    )
    if _x509.MISSING:
        _find_library(module)
    else:
        finish(module, work)


def _find_library(module: AnsibleModule) -> None:
    """Run again with the Python that has the library; it is there once a release is installed."""
    python = module.params["python"]
    if python and Path(python).exists() and not has_respawned():
        respawn_module(python)
    elif python and module.check_mode and not _has_any(module.params["files"]):
        finish(module, work)  # a host without a release has no certificates to be read
    else:
        module.fail_json(msg=missing_required_lib("cryptography"), exception=_x509.MISSING)


def _has_any(files: dict[str, dict[str, str]]) -> bool:
    return any(Path(path).exists() for each in files.values() for path in each.values())


if __name__ == "__main__":
    main()
