#!/usr/bin/python
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: the controller's certificate authorities."""

from __future__ import annotations

DOCUMENTATION = r"""
module: grey_authority
short_description: Keep the controller's certificate authorities and sign the requests of all hosts
version_added: 0.1.0
description:
  - Makes each authority once, in a folder that only the user can open, and never anew while any of it is left.
  - Signs the requests of all hosts in one call. The names come from O(entitlements); a request that asks for others
    is refused, and then nothing is signed.
  - Needs the Python library C(cryptography), which ansible-core brings.
author:
  - Grey Distributed contributors (@grey-distributed)
extends_documentation_fragment:
  - grey.distributed.attributes
attributes:
  idempotent:
    support: partial
    details: Every request is answered with a new certificate; without requests a second run changes nothing.
options:
  directory:
    description: The folder of the authorities.
    type: path
    required: true
  authorities:
    description: The authorities to keep.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What it is called.
        type: str
        required: true
      common_name:
        description: The common name in its certificate.
        type: str
        required: true
  authority_days:
    description: How long a new authority lives, in days.
    type: int
    default: 3650
  clients:
    description: Client certificates for the controller itself, kept as NAME-cert.pem, NAME-key.pem and NAME-ca.pem.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The beginning of the files' names.
        type: str
        required: true
      common_name:
        description: The common name inside.
        type: str
        required: true
      authority:
        description: The authority that signs it.
        type: str
        required: true
      days:
        description: How long it lives, in days; it is renewed in the last third.
        type: int
        default: 365
  entitlements:
    description:
      - By host, the certificates it may have.
      - Each has C(name), C(authority), C(common_name), C(dns) and C(addresses).
    type: dict
    default: {}
  requests:
    description: By host, what M(grey.distributed.grey_certificates) returned as RV(grey.distributed.grey_certificates#module:requests).
    type: dict
    default: {}
  leaf_seconds:
    description: How long a signed certificate lives, in seconds.
    type: float
    default: 259200
  replace:
    description:
      - Whether hosts that all have certificates of another authority get new ones. Without it, their requests are refused,
        because it means that the authority in O(directory) is not theirs.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Sign for all hosts
  grey.distributed.grey_authority:
    directory: /srv/grey/controller
    authorities:
      - name: federation
        common_name: global-grey federation
    entitlements:
      aws-east-1:
        - name: federation
          authority: federation
          common_name: aws-east.grey.internal
          dns: [aws-east.grey.internal]
          addresses: []
    requests: {aws-east-1: "{{ requested.requests }}"}
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
authorities:
  description: By name, the certificate in PEM; an empty text in check mode when it does not exist yet.
  returned: success
  type: dict
certificates:
  description: By host and name, the signed certificate in PEM; an empty text in check mode.
  returned: success
  type: dict
"""

import datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.grey.distributed.plugins.module_utils import _authority, _x509
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError, Outcome, finish


def work(params: dict[str, Any], check: bool) -> Outcome:
    """Do what the module is for."""
    names = sorted(item["name"] for item in params["authorities"])
    for item in params["clients"]:
        if item["authority"] not in names:
            raise GreyError(f"clients: wanted an authority out of {names}, found {item['authority']!r}")
    with _authority.Vault(params["directory"], check=check).opened() as vault:
        life = datetime.timedelta(days=params["authority_days"])
        authorities = {
            item["name"]: vault.authority(item["name"], item["common_name"], life)
            for item in params["authorities"]
        }
        for item in params["clients"]:
            vault.client(
                item["name"],
                item["common_name"],
                authorities[item["authority"]],
                datetime.timedelta(days=item["days"]),
            )
        signed, changes = _authority.sign(
            authorities,
            {host: _entitlements(host, items) for host, items in params["entitlements"].items()},
            params["requests"],
            datetime.timedelta(seconds=params["leaf_seconds"]),
            replace=params["replace"],
            check=check,
        )
        return Outcome(
            {
                "authorities": {name: authority.pem for name, authority in authorities.items()},
                "certificates": signed,
            },
            [*vault.changes, *changes],
        )


def _entitlements(host: str, items: Any) -> dict[str, _authority.Entitlement]:
    try:
        return {
            item["name"]: _authority.Entitlement(
                item["authority"],
                _x509.Names(item["common_name"], frozenset(item["dns"]), frozenset(item["addresses"])),
            )
            for item in items
        }
    except (KeyError, TypeError) as error:
        raise GreyError(
            f"entitlements: {host}: wanted a list with name, authority, common_name, dns and addresses, missing: {error}"
        ) from error


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "authorities": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "common_name": {"type": "str", "required": True},
                },
            },
            "authority_days": {"type": "int", "default": 3650},
            "clients": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "common_name": {"type": "str", "required": True},
                    "authority": {"type": "str", "required": True},
                    "days": {"type": "int", "default": 365},
                },
            },
            "entitlements": {"type": "dict", "default": {}},
            "requests": {"type": "dict", "default": {}},
            "leaf_seconds": {"type": "float", "default": 259200},
            "replace": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    if _x509.MISSING:
        module.fail_json(msg=missing_required_lib("cryptography"), exception=_x509.MISSING)
    finish(module, work)


if __name__ == "__main__":
    main()
