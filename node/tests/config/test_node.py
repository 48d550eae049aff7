# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - messages stand in one piece, so that they can be searched for
"""The node's file and grey-ctl's file, as the reference shows them, and what is wrong with others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from grey.config import ctl, node
from grey.config.errors import ConfigError
from grey.config.model import Endpoint, TlsFiles

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"
TLS = TlsFiles("/etc/grey/federation-cert.pem", "/etc/grey/federation-key.pem", "/etc/grey/federation-ca.pem")
STORE_TLS = TlsFiles("/etc/grey/fedstore/cert.pem", "/etc/grey/fedstore/key.pem", "/etc/grey/fedstore/ca.pem")


def block(page: str) -> str:
    found = re.search(r"```yaml\n(.*?)```", (REFERENCE / page).read_text(), re.DOTALL)
    assert found
    return found[1]


@pytest.fixture
def text() -> str:
    return block("node-file.md")


def load(tmp_path: Path, text: str) -> node.NodeFile:
    path = tmp_path / "grey.yaml"
    path.write_text(text)
    return node.load(path)


def faults(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    return [str(fault).removeprefix(f"{tmp_path}/") for fault in caught.value.faults]


def test_the_file_of_the_reference(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text) == node.NodeFile(
        mode="cluster",
        name="aws-east-1",
        cluster="aws-east",
        federation_file="/etc/grey/federation.yaml",
        identity_file="/etc/grey/identity.json",
        data_dir="/var/lib/grey/data",
        store=node.DataStore("sqlite"),
        listen=node.Listen("127.77.1.1", 8080, 8443, 9090),
        tls=TLS,
        names={"grey-east.example.com": ("127.77.1.1",)},
        federation_store=node.FederationStoreAccess(
            endpoints=tuple(Endpoint(f"127.77.{n}.1", 2379) for n in (1, 2, 3)),
            tls=STORE_TLS,
            member=node.StoreMember(
                "aws-east-1",
                "/usr/bin/etcd",
                "/etc/grey/fedstore/etcd.yaml",
                "/var/lib/grey/fedstore",
                "/etc/grey/fedstore/member.json",
            ),
        ),
    )


def test_a_node_without_the_store_and_with_default_ports(tmp_path: Path, text: str) -> None:
    text = text[: text.index("  names:")]
    for line in ("    api: 8080\n", "    control: 8443\n", "    metrics: 9090\n", "  mode: cluster\n"):
        assert line in text
        text = text.replace(line, "")
    read = load(tmp_path, text)
    assert read.listen == node.Listen("127.77.1.1", 8080, 8443, 9090)
    assert (read.names, read.federation_store, read.mode) == ({}, None, "cluster")


def test_a_node_without_a_member(tmp_path: Path, text: str) -> None:
    read = load(tmp_path, text[: text.index("    member:")])
    assert read.federation_store is not None
    assert read.federation_store.member is None


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  name: aws-east-1  ", "  nam: aws-east-1  ", ["3: node.nam: unknown key; did you mean name?"]),
        ("engine: sqlite", "engine: sqlit", ['9: node.store.engine: expected one of sqlite, etcd; found "sqlit"; did you mean sqlite?']),
        ("address: 127.77.1.1", "address: grey-east", ['11: node.listen.address: expected an IP address, found "grey-east"; "grey-east" is not an IPv4 or IPv6 address']),
        ("control: 8443", "control: 8080", ["13: node.listen.control: port 8080 is that of api; give each its own port"]),
        ("metrics: 9090", "metrics: 0", ["14: node.listen.metrics: expected at least 1, found 0"]),
        ("[127.77.1.1]\n", "[grey]\n", ['20: node.names["grey-east.example.com"][0]: expected an IP address, found "grey"; "grey" is not an IPv4 or IPv6 address']),
        ("grey-east.example.com: [127.77.1.1]", "grey_east: [127.77.1.1]", ['20: node.names.grey_east: expected a host name, found "grey_east"; a host is a DNS name of a-z, 0-9, - and dots, or an IP address']),
        ("grey-east.example.com: [127.77.1.1]", "grey-east.example.com: []", ['20: node.names["grey-east.example.com"]: expected at least one entry, found none']),
        ('["127.77.1.1:2379", "127.77.2.1:2379", "127.77.3.1:2379"]', '["127.77.1.1"]', ['22: node.federation_store.endpoints[0]: expected HOST:PORT, found "127.77.1.1"; add the port, for example host:8080']),
        ("/etc/grey/identity.json", "/var/lib/grey/data/identity.json", ["6: node.identity_file: expected a path outside of data_dir, which is /var/lib/grey/data; keep them apart"]),
        ("/etc/grey/fedstore/member.json", "/var/lib/grey/fedstore/member.json", ["29: node.federation_store.member.marker_file: expected a path outside of data_dir, which is /var/lib/grey/fedstore; keep them apart"]),
        ("/var/lib/grey/fedstore", "/var/lib/grey/data", ["28: node.federation_store.member.data_dir: expected a path outside of node.data_dir, which is /var/lib/grey/data; keep them apart"]),
        ("data_dir: /var/lib/grey/data ", "data_dir: data ", ['7: node.data_dir: expected an absolute path, found "data"; begin with / and use no .. and no / at the end']),
        ("      etcd: /usr/bin/etcd\n", "", ["24: node.federation_store.member.etcd: the key is missing; add it, for example etcd: /usr/bin/etcd"]),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, text: str, old: str, new: str, expected: list[str]) -> None:
    assert old in text
    assert faults(tmp_path, text.replace(old, new)) == [f"grey.yaml:{fault}" for fault in expected]


def test_grey_ctl_s_file(tmp_path: Path) -> None:
    path = tmp_path / "ctl.yaml"
    path.write_text(
        block("commands.md").replace(
            "cert_file: ..., key_file: ..., ca_file: ...",
            "cert_file: /c.pem, key_file: /k.pem, ca_file: /a.pem",
        )
    )
    assert ctl.load(path) == ctl.CtlFile(
        {
            "global-grey": ctl.CtlFederation(
                "/etc/grey/federation.yaml",
                TlsFiles("/c.pem", "/k.pem", "/a.pem"),
                {"grey-east.example.com": ("127.77.1.1",)},
            )
        }
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "current: mars\nfederations: {}",
            [
                "1: current: there is no context mars, the file names: none; write one of these, or remove the line"
            ],
        ),
        (
            "federations:\n  Global: {federation_file: /f}",
            [
                '2: federations.Global: expected a name of 1 to 63 characters a-z, 0-9 and - (not first or last), found "Global"; write global',
                "2: federations.Global.tls: the key is missing; add it, with cert_file, key_file, ca_file",
            ],
        ),
    ],
)
def test_grey_ctl_s_file_refused(tmp_path: Path, text: str, expected: list[str]) -> None:
    path = tmp_path / "ctl.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        ctl.load(path)
    assert {str(fault) for fault in caught.value.faults} == {f"{path}:{fault}" for fault in expected}
