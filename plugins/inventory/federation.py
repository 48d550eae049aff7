# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible inventory plugin: the clusters of a federation file, with the roles that they have now."""

from __future__ import annotations

DOCUMENTATION = r"""
name: federation
short_description: The clusters of a federation, with the roles that they have now
version_added: 0.2.0
description:
  - Makes the groups that the playbooks of this collection use from the federation file, and groups by region, role and capability.
  - Asks the control plane of a deployed federation who is the primary now. When it does not answer, the roles are those of the
    federation file, which count for the first start only; C(grey_role_source) and the groups C(role_source_*) say which.
  - The source file is named C(grey.yml), C(grey.yaml), or ends with C(.grey.yml) or C(.grey.yaml).
  - Needs nothing but ansible-core on the controller. It never prompts.
author:
  - Grey Distributed contributors (@grey-distributed)
extends_documentation_fragment:
  - constructed
  - inventory_cache
notes:
  - "Groups: C(grey) (all of it), C(cluster_NAME), C(witness_NAME), C(region_REGION), C(role_primary), C(role_replica),
    C(capability_read_only), C(capability_cache), and one of C(role_source_live), C(role_source_cache), C(role_source_file). Every
    character that is no letter or digit becomes C(_). The groups of clusters are children of the others, so that the
    hosts which another source puts into C(cluster_NAME) are in them, too."
  - "C(role_primary) means what C(grey_role_source) says. A play that must not follow an outdated role names
    C(role_primary:&role_source_live), which is empty when the control plane did not answer."
  - "Variables of a cluster's hosts: C(grey_cluster), C(grey_cluster_region), C(grey_cluster_weight),
    C(grey_cluster_capabilities), C(grey_cluster_endpoint), C(grey_role), C(grey_role_source) (V(live), V(cache) or V(file)),
    C(grey_role_as_of) (when the control plane was asked, in UTC), C(grey_epoch), C(grey_status) and C(grey_online); the last
    four are null when the role is the file's. Of all hosts in C(grey): C(grey_federation_name), C(grey_federation_file)."
  - Ansible takes a source that fails for a warning. The settings C(any_unparsed_is_failed) or C(unparsed_is_failed) in the section
    C([inventory]) of ansible.cfg make it an error; AWX sets the latter.
  - The cache keeps the answer of the control plane alone. Roles from it are marked V(cache), and an answer that is missing is not kept.
    The federation file is always read anew.
options:
  plugin:
    description: Marks the file as a source for this plugin.
    type: str
    required: true
    choices: [grey.distributed.federation]
  federation_file:
    description:
      - The federation file.
      - Like those of all files here, a relative path counts from the folder of the source file.
    type: str
    default: federation.yaml
    env:
      - name: GREY_FEDERATION_FILE
  hosts:
    description:
      - The hosts of each cluster and of each witness, which the federation file does not name. A mapping of these by name, each a
        mapping of hosts.
      - A host's value is its IP address, a mapping of variables, or empty. The address becomes C(grey_address) and, unless the
        variables say otherwise, C(ansible_host).
      - May be left out when other sources put the hosts into the groups of the clusters. Sources are read in order,
        and O(compose), O(groups) and O(keyed_groups) see the hosts of those before this one.
    type: dict
    default: {}
  grey_ctl:
    description:
      - The grey-ctl program, which checks all of the federation file.
      - Without it, what the inventory needs of the file is read and checked here; C(deploy.yml) checks all of it in any case.
      - "By default C(grey-ctl) beside Ansible's Python, if there is one. Empty: none."
    type: str
    env:
      - name: GREY_CTL
  live:
    description:
      - V(auto) asks the control plane as soon as there is a certificate to ask with, and warns when it does not answer.
      - V(require) fails when it does not answer now; it takes nothing from the cache.
      - V(never) does not ask.
    type: str
    choices: [auto, require, never]
    default: auto
    env:
      - name: GREY_INVENTORY_LIVE
  timeout:
    description: How many seconds all questions to control planes may take together, from 0.1 to 60.
    type: float
    default: 3
    env:
      - name: GREY_INVENTORY_TIMEOUT
  ctl_config:
    description:
      - grey-ctl's file, as C(deploy.yml) writes it. It names the operator's certificate and the addresses of host names.
      - A file that does not exist is an error only when it was named.
    type: str
    default: .grey-controller/ctl.yaml
    env:
      - name: GREY_CTL_CONFIG
  cert_file:
    description: The operator's certificate (PEM), instead of the one in O(ctl_config); with O(key_file) and O(ca_file).
    type: str
    env:
      - name: GREY_CERT_FILE
  key_file:
    description: The key of O(cert_file) (PEM, without a password).
    type: str
    env:
      - name: GREY_KEY_FILE
  ca_file:
    description: The authorities of the federation (PEM).
    type: str
    env:
      - name: GREY_CA_FILE
  names:
    description: Addresses of host names, asked before those in O(ctl_config) and DNS. A mapping of names, each a list of addresses.
    type: dict
    default: {}
seealso:
  - module: grey.distributed.grey_federation_info
"""

EXAMPLES = r"""
# grey.yml, beside federation.yaml: clusters of one host each
plugin: grey.distributed.federation
hosts:
  aws-east:
    aws-east-1: 198.51.100.11
  gcp-west:
    gcp-west-1: 198.51.100.21
  edge-chicago:
    edge-chicago-1:
      grey_address: 198.51.100.31
      ansible_user: admin

---
# sites.grey.yml: the hosts come from the sources before it (ansible-inventory -i hosts.yml -i sites.grey.yml --graph),
# roles are kept for a minute, and a play can name the hosts by site
plugin: grey.distributed.federation
federation_file: ../federation.yaml
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/grey-inventory
cache_timeout: 60
keyed_groups:
  - key: grey_cluster_region.split('-')[0]
    prefix: site
compose:
  ansible_user: "'admin' if grey_cluster.startswith('edge-') else 'grey'"

---
# AWX: a credential gives GREY_CERT_FILE, GREY_KEY_FILE and GREY_CA_FILE (docs/reference/inventory.md)
plugin: grey.distributed.federation
federation_file: federation.yaml
live: require
hosts:
  aws-east:
    aws-east-1: 198.51.100.11
names:
  grey-east.example.com: [198.51.100.11]
"""

import difflib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleParserError
from ansible.inventory.helpers import get_group_vars
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.utils.vars import combine_vars
from ansible_collections.grey.distributed.plugins.module_utils import (
    _control_plane,
    _federation_facts,
    _federation_file,
    _inventory_access,
    _inventory_plan,
)
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError

try:
    from ansible.template import trust_as_template
except ImportError:  # before ansible-core 2.19, where all text is trusted

    def trust_as_template(text: str) -> str:
        """Return the text."""
        return text


if TYPE_CHECKING:
    from collections.abc import Mapping

ENDINGS = ("grey.yml", "grey.yaml")


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Reads a source file, asks the control plane, and fills the inventory in one go when all was well."""

    NAME = "grey.distributed.federation"

    def verify_file(self, path: str) -> bool:
        """Say whether a file is a source for this plugin, by its name."""
        name = Path(path).name
        ours = name in ENDINGS or name.endswith(tuple(f".{ending}" for ending in ENDINGS))
        return ours and bool(super().verify_file(path))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Fill the inventory from a source file. Raises AnsibleParserError, and then adds nothing."""
        super().parse(inventory, loader, path)
        config = self._read_config_data(path)
        try:
            self._known_keys(config)
            self._ctl_config_was_named = "ctl_config" in config or "GREY_CTL_CONFIG" in os.environ
            self._fill(path, use_cache=cache)
        except GreyError as error:
            raise AnsibleParserError(f"{path}: {error}") from error

    def _known_keys(self, config: Mapping[str, Any]) -> None:
        known = sorted(self.get_options())
        for key in config:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                hint = f"the nearest is {near[0]}" if near else "see ansible-doc -t inventory " + self.NAME
                raise GreyError(f"wanted options of {self.NAME}, found {key!r}; {hint}")

    def _fill(self, path: str, *, use_cache: bool) -> None:
        folder = Path(path).resolve().parent
        federation_file = str(_inventory_access.resolved(self.get_option("federation_file"), folder))
        facts = self._facts(federation_file)
        hosts = _inventory_plan.hosts(self.get_option("hosts"), facts)
        live, source = self._roles(path, folder, facts, hosts, use_cache=use_cache)
        groups = _inventory_plan.groups(facts, live, source=source, federation_file=federation_file)
        for name, group in groups.items():
            self.inventory.add_group(name)
            for key, value in group.variables.items():
                self.inventory.set_variable(name, key, _plain(value))
        for name, group in groups.items():
            for child in group.children:
                self.inventory.add_child(name, child)
        homes = facts.homes
        for host in hosts:
            self.inventory.add_host(host.name, group=homes[host.cluster])
            for key, value in host.variables.items():
                self.inventory.set_variable(host.name, key, value)
        for group_name in homes.values():
            for each in list(self.inventory.groups[group_name].get_hosts()):
                self._construct(each)

    def _construct(self, host: Any) -> None:
        strict = self.get_option("strict")

        def variables() -> Any:
            return combine_vars(get_group_vars(host.get_groups()), host.get_vars())

        self._set_composite_vars(self.get_option("compose"), variables(), host.name, strict=strict)
        found = variables()
        self._add_host_to_composed_groups(self.get_option("groups"), found, host.name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), found, host.name, strict=strict)

    def _facts(self, path: str) -> _federation_facts.Facts:
        if not Path(path).is_file():
            raise GreyError(f"federation_file: wanted the federation file, found no file {path}")
        chosen = self.get_option("grey_ctl")
        beside = Path(sys.executable).with_name("grey-ctl")
        found = str(beside) if chosen is None and beside.is_file() else chosen
        if found:
            try:
                return _federation_facts.from_checked(_federation_file.read(found, path))
            except GreyError as error:
                if chosen or error.details.get("errors"):
                    raise
                self.display.warning(
                    f"only what the inventory needs of the federation file is checked: {error}"
                )
        self.display.vvv(f"no grey-ctl: only what the inventory needs of {path} is checked")
        return _federation_facts.from_plain(self._load(path), path)

    def _roles(
        self,
        path: str,
        folder: Path,
        facts: _federation_facts.Facts,
        hosts: list[_inventory_plan.Host],
        *,
        use_cache: bool,
    ) -> tuple[_control_plane.Live | None, str]:
        """Return who has which role and where that is from."""
        wish = self.get_option("live")
        if wish == "never":
            return None, "file"
        key = self.get_cache_key(path)
        caching = self.get_option("cache")
        if caching and use_cache and wish != "require":
            kept = _control_plane.restored(self._cache.get(key), facts.name)
            if kept is not None:
                self._say_age(kept)
                return kept, "cache"
        answer = self._ask(folder, facts, hosts)
        if isinstance(answer, _control_plane.Live):
            if caching:
                self._cache[key] = answer.plain()
            return answer, "live"
        if caching:
            # Or a later run would take from the cache what could not be confirmed now.
            self._cache[key] = {}
        self._without(answer, facts.name, wish)
        return None, "file"

    def _ask(
        self, folder: Path, facts: _federation_facts.Facts, hosts: list[_inventory_plan.Host]
    ) -> _control_plane.Live | _control_plane.Silence | None:
        """Ask; None when there is no certificate to ask with."""
        timeout = self.get_option("timeout")
        if not 0.1 <= timeout <= 60:
            raise GreyError(f"timeout: wanted 0.1 to 60 seconds, found {timeout:g}")
        options = {name: self.get_option(name) for name in _inventory_access.OPTIONS}
        access = _inventory_access.access(
            options, folder, facts.name, self._load, ctl_config_was_named=self._ctl_config_was_named
        )
        if access is None:
            return None
        try:
            tls = _control_plane.context(access.tls)
        except GreyError as error:
            return _control_plane.Silence((str(error),))
        return _control_plane.ask(
            _inventory_access.endpoints(facts, hosts),
            tls,
            access.names,
            federation=facts.name,
            timeout_seconds=timeout,
        )

    def _without(self, answer: _control_plane.Silence | None, federation: str, wish: str) -> None:
        if answer is None:
            said = "no certificate to ask with; deploy first, or set ctl_config or cert_file"
        else:
            said = f"the control plane did not say who is the primary: {answer}"
        if wish == "require":
            raise GreyError(f"live: wanted the live roles of {federation}, found: {said}")
        if answer is None:
            self.display.vvv(f"{federation}: {said}")
        else:
            self.display.warning(
                f"federation {federation}: the roles are the federation file's and may be outdated; {said}"
            )

    def _say_age(self, kept: _control_plane.Live) -> None:
        age = max(0, int(time.time()) - kept.asked_at)
        self.display.vvv(f"federation {kept.federation}: the roles are {age} s old, from the cache")

    def _load(self, path: str) -> Any:
        return self.loader.load_from_file(path, cache="none")


def _plain(value: Any) -> Any:
    """Mark text as the operator's own, so that it is not exported as foreign: it is of his files, or one of a few words."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return trust_as_template(value) if isinstance(value, str) else value
