# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups, variables and hosts, and with what the control plane is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.grey.distributed.plugins.module_utils import (
    _control_plane,
    _federation_facts,
    _inventory_access,
    _inventory_plan,
)
from ansible_collections.grey.distributed.plugins.module_utils._control_plane import Endpoint
from ansible_collections.grey.distributed.plugins.module_utils._outcome import GreyError
from ansible_collections.grey.distributed.tests.unit.plugins.inventory.plane import FEDERATION, document

FACTS = _federation_facts.from_plain(FEDERATION, "federation.yaml")
TLS = {"cert_file": "c.pem", "key_file": "/k.pem", "ca_file": "a.pem"}


def plan(primary: str | None, **more: Any) -> dict[str, _inventory_plan.Group]:
    live = None
    if primary:
        live = _control_plane.read(document(primary, **more), "fleet", 1_700_000_000)
        assert isinstance(live, _control_plane.Live)
    return _inventory_plan.groups(FACTS, live, source="live" if live else "file", federation_file="/f.yaml")


def test_the_files_roles_are_marked() -> None:
    groups = plan(None)
    assert groups["role_primary"].children == groups["region_us_east_1"].children == ["cluster_aws_east"]
    assert groups["role_source_live"].children == groups["role_source_cache"].children == []
    assert groups["role_source_file"].children == groups["grey"].children
    assert groups["capability_read_only"].children == ["cluster_edge_chicago"]
    assert groups["cluster_aws_east"].variables == {
        "grey_cluster": "aws-east",
        "grey_cluster_region": "us-east-1",
        "grey_cluster_weight": 100,
        "grey_cluster_capabilities": [],
        "grey_cluster_endpoint": "grey-east.example.com:8080",
        "grey_role": "primary",
        "grey_role_source": "file",
        "grey_role_as_of": None,
        "grey_epoch": None,
        "grey_status": None,
        "grey_online": None,
    }
    assert groups["grey"].variables == {"grey_federation_name": "fleet", "grey_federation_file": "/f.yaml"}


def test_the_live_role_wins_also_when_that_cluster_is_offline() -> None:
    clusters = [{"name": "gcp-west", "status": "offline", "online": False}]
    groups = plan("gcp-west", clusters=clusters)
    assert groups["role_primary"].children == ["cluster_gcp_west"]
    west, east = groups["cluster_gcp_west"].variables, groups["cluster_aws_east"].variables
    assert (west["grey_role"], west["grey_status"], west["grey_online"]) == ("primary", "offline", False)
    assert (west["grey_epoch"], west["grey_role_as_of"]) == (7, "2023-11-14T22:13:20Z")
    # A cluster of the file that the federation does not know yet.
    assert (east["grey_role"], east["grey_status"], east["grey_online"]) == ("replica", "unknown", False)


def test_hosts() -> None:
    found = _inventory_plan.hosts(
        {
            "aws-east": {
                "a1": "192.0.2.1",
                "a2": {"grey_address": "192.0.2.2", "ansible_host": "jump", "x": 1},
            },
            "gcp-west": {"g1": None, "g2": "{{ net }}.1"},
        },
        FACTS,
    )
    assert [(host.name, host.cluster, dict(host.variables)) for host in found] == [
        ("a1", "aws-east", {"ansible_host": "192.0.2.1", "grey_address": "192.0.2.1"}),
        ("a2", "aws-east", {"ansible_host": "jump", "grey_address": "192.0.2.2", "x": 1}),
        ("g1", "gcp-west", {}),
        ("g2", "gcp-west", {"ansible_host": "{{ net }}.1", "grey_address": "{{ net }}.1"}),
    ]


@pytest.mark.parametrize(
    ("hosts", "line"),
    [
        (
            {"aws_east": {}},
            (
                "hosts.aws_east: wanted a cluster or witness of the federation fleet (aws-east, gcp-west, "
                "edge-chicago), found none of that name; the nearest is aws-east"
            ),
        ),
        (
            {"aws-east": ["a1"]},
            "hosts.aws-east: wanted a mapping of hosts, each with its address or variables, found ['a1']",
        ),
        (
            {"aws-east": {"a1": "east"}},
            "hosts.aws-east.a1: wanted an IP address, or variables with one in grey_address, found 'east'",
        ),
        (
            {"aws-east": {"a1": None}, "gcp-west": {"a1": None}},
            (
                "hosts.gcp-west.a1: wanted the host in one cluster, found it in aws-east, too; "
                "remove it from one"
            ),
        ),
        (
            {"aws-east": {"a1": "::1", "a2": "::1"}},
            "hosts.aws-east.a2: wanted an address of its own, found ::1, which a1 has",
        ),
    ],
)
def test_wrong_hosts(hosts: Any, line: str) -> None:
    with pytest.raises(GreyError) as caught:
        _inventory_plan.hosts(hosts, FACTS)
    assert str(caught.value) == f"the inventory's source file is wrong\n{line}"


def test_whom_to_ask() -> None:
    hosts = _inventory_plan.hosts({"edge-chicago": {"e1": "192.0.2.9"}, "aws-east": {"a1": "{{ x }}"}}, FACTS)
    assert _inventory_access.endpoints(FACTS, hosts) == [
        Endpoint("aws-east.grey.internal", "grey-east.example.com", 8443),
        Endpoint("gcp-west.grey.internal", "grey-west.example.com", 8443),
        Endpoint("edge-chicago.grey.internal", "grey-chi.edge.internal", 8443),
        Endpoint("edge-chicago.grey.internal", "192.0.2.9", 8443),
        Endpoint("federation.grey.internal", "federation.grey.internal", 8443),
    ]


def access(
    folder: Path, ctl: Any = None, *, named: bool = False, **options: Any
) -> _inventory_access.Access | None:
    if ctl is not None:
        (folder / "ctl.yaml").touch()
    wanted = {**dict.fromkeys(_inventory_access.OPTIONS), "ctl_config": "ctl.yaml", "names": {}, **options}
    return _inventory_access.access(wanted, folder, "fleet", lambda _: ctl, ctl_config_was_named=named)


def test_before_the_first_deployment_there_is_no_access(tmp_path: Path) -> None:
    assert access(tmp_path) is None


def test_access_is_that_of_grey_ctl(tmp_path: Path) -> None:
    entry = {"tls": TLS, "names": {"Grey-East.example.com": ["192.0.2.1"]}}
    found = access(tmp_path, {"federations": {"fleet": entry}}, names={"x.example.": ["::1"]})
    assert found is not None
    assert found.tls == _control_plane.Tls(str(tmp_path / "c.pem"), "/k.pem", str(tmp_path / "a.pem"))
    assert found.names == {"grey-east.example.com": ["192.0.2.1"], "x.example": ["::1"]}


def test_certificates_can_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "/keys")
    found = access(
        tmp_path, {"federations": {"fleet": {"tls": TLS}}}, cert_file="$KEYS/c", key_file="k", ca_file="/a"
    )
    assert found is not None
    assert found.tls == _control_plane.Tls("/keys/c", str(tmp_path / "k"), "/a")


@pytest.mark.parametrize(
    ("ctl", "options", "message"),
    [
        (
            None,
            {"cert_file": "c"},
            "wanted cert_file, key_file and ca_file together, found no key_file, ca_file",
        ),
        (None, {"named": True}, "ctl_config: wanted grey-ctl's file, found no file {folder}/ctl.yaml"),
        ([], {}, "{folder}/ctl.yaml: wanted grey-ctl's file with the key federations, found something else"),
        (
            {"federations": {"other": {}}},
            {"named": True},
            (
                "{folder}/ctl.yaml: wanted the federation fleet, found: other; "
                "name its file with ctl_config or the "
                "certificate with cert_file, key_file and ca_file"
            ),
        ),
        (
            {"federations": {"fleet": {"tls": {}}}},
            {},
            "{folder}/ctl.yaml: wanted tls with cert_file, key_file, ca_file, found something else",
        ),
        (
            None,
            {"names": []},
            "names: wanted a mapping of host names, each with a list of addresses, found []",
        ),
        (
            None,
            {"names": {"x": ["y"]}},
            (
                "names.x: wanted a list of IP addresses, found: 'y' does not appear to be "
                "an IPv4 or IPv6 address"
            ),
        ),
    ],
)
def test_wrong_access(tmp_path: Path, ctl: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(GreyError) as caught:
        access(tmp_path, ctl, **options)
    assert str(caught.value) == message.format(folder=tmp_path)


def test_grey_ctls_file_of_another_federation_beside_it_is_not_ours(tmp_path: Path) -> None:
    assert access(tmp_path, {"federations": {"other": {}}}) is None
