# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - messages stand in one piece, so that they can be searched for
"""The node's file and grey-ctl's file, as the reference shows them, and what is wrong with others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from grey.config import ctl, node
from grey.config.engine import DataStore, EngineMember
from grey.config.errors import ConfigError
from grey.config.federation_store import FederationStoreAccess, StoreMember
from grey.config.model import Endpoint, TlsFiles

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"
TLS = TlsFiles("/etc/grey/federation-cert.pem", "/etc/grey/federation-key.pem", "/etc/grey/federation-ca.pem")
STORE_TLS = TlsFiles("/etc/grey/fedstore/cert.pem", "/etc/grey/fedstore/key.pem", "/etc/grey/fedstore/ca.pem")


def block(page: str, number: int = 0) -> str:
    found = re.findall(r"```yaml\n(.*?)```", (REFERENCE / page).read_text(), re.DOTALL)
    return str(found[number])


@pytest.fixture
def text() -> str:
    return block("node-file.md")


@pytest.fixture
def with_etcd(text: str) -> str:
    """The file with the engine of the second block."""
    before, store, after = text.partition(
        "  store:\n    engine: sqlite                       # or etcd, see below\n"
    )
    assert store
    return before + block("node-file.md", 1) + after


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
        store=DataStore("sqlite"),
        listen=node.Listen("127.77.1.1", 8080, 8443, 9090),
        tls=TLS,
        names={"grey-east.example.com": ("127.77.1.1",)},
        federation_store=FederationStoreAccess(
            endpoints=tuple(Endpoint(f"127.77.{n}.1", 2379) for n in (1, 2, 3)),
            tls=STORE_TLS,
            member=StoreMember(
                name="aws-east-1",
                etcd="/usr/bin/etcd",
                data_dir="/var/lib/grey/fedstore",
                marker_file="/etc/grey/fedstore/member.json",
                bootstrap_file="/etc/grey/fedstore/bootstrap.json",
                client=Endpoint("127.77.1.1", 2379),
                peer=Endpoint("127.77.1.1", 2380),
                tls=STORE_TLS,
                heartbeat_milliseconds=100,
                quota_bytes=256 * 1024**2,
                retention_seconds=600.0,
            ),
        ),
    )


def test_the_engine_of_the_reference(tmp_path: Path, with_etcd: str) -> None:
    tls = TlsFiles("/etc/grey/engine/cert.pem", "/etc/grey/engine/key.pem", "/etc/grey/engine/ca.pem")
    member = EngineMember(
        name="aws-east-1",
        etcd="/usr/bin/etcd",
        data_dir="/var/lib/grey/engine",
        run_dir="/run/grey/engine",
        marker_file="/etc/grey/engine/member.json",
        bootstrap_file="/etc/grey/engine/bootstrap.json",
        peer=Endpoint("127.77.1.1", 2390),
        tls=tls,
        heartbeat_milliseconds=100,
    )
    socket = "unix:/run/grey/engine/etcd:0"
    assert load(tmp_path, with_etcd).store == DataStore("etcd", socket, None, 2 * 1024**3, member)
    network = with_etcd.replace(f"endpoint: {socket}", "endpoint: 127.77.1.1:2389").replace(
        "    quota: 2Gi", "    tls: {cert_file: /c.pem, key_file: /k.pem, ca_file: /a.pem} #"
    )
    store = DataStore("etcd", "127.77.1.1:2389", TlsFiles("/c.pem", "/k.pem", "/a.pem"), 2 * 1024**3, member)
    assert load(tmp_path, network).store == store


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("engine: etcd", "engine: sqlite", [
            "10: node.store.endpoint: only the engine etcd has this key; remove it, or write engine: etcd",
            "11: node.store.quota: only the engine etcd has this key; remove it, or write engine: etcd",
            "12: node.store.member: only the engine etcd has this key; remove it, or write engine: etcd",
        ]),
        ("    endpoint: unix:", "    #", ["8: node.store.endpoint: the key is missing; add it, for example endpoint: unix:/run/grey/engine/etcd:0"]),
        ("unix:/run/grey/engine/etcd:0", "127.77.1.1:2389", ["8: node.store.tls: the key is missing: an engine reached over the network needs mutual TLS; add cert_file, key_file and ca_file of the engine's own CA"]),
        ("quota: 2Gi", "tls: {cert_file: /c, key_file: /k, ca_file: /a}", ["11: node.store.tls: a unix socket has no TLS; remove the key"]),
        ("quota: 2Gi", "quota: 2Mi", ["11: node.store.quota: expected at least 64Mi, found 2Mi"]),
        ("quota: 2Gi", "quota: 2", ["11: node.store.quota: expected a quota, found the number 2; write a whole number and Ki, Mi, Gi, Ti or k, M, G, T"]),
        ("quota: 2Gi", "quota: much", ['11: node.store.quota: expected a size, found "much"; write a whole number and Ki, Mi, Gi, Ti (1024) or k, M, G, T (1000), for example 4Gi or 2G']),
        ("unix:/run/grey/engine/etcd:0", "unix:/run/grey/engine/etcd", ['10: node.store.endpoint: expected a unix socket, found "unix:/run/grey/engine/etcd"; write unix:/FOLDER/NAME:NUMBER, for example unix:/run/grey/engine/etcd:0']),
        ("unix:/run/grey/engine/etcd:0", f"unix:/{'x' * 110}/etcd:0", [f'10: node.store.endpoint: expected the path of a socket, at most 107 bytes, found "unix:/{"x" * 51}..."; choose a shorter folder']),
        ("run_dir: /run/grey/engine", "run_dir: /run/engine", ["16: node.store.member.run_dir: the socket of node.store.endpoint must lie in run_dir, but lies in /run/grey/engine; write run_dir: /run/grey/engine, or endpoint: unix:/run/engine/etcd:0"]),
        ("127.77.1.1:2390", "east.example.com:2390", ["19: node.store.member.peer: expected an IP address and a port, found the name east.example.com; write the address of this host on which the other members reach it"]),
        ("heartbeat: 100ms                        #", "heartbeat: 9ms #", ["21: node.store.member.heartbeat: expected 10ms to 5s, found 9ms; write about the longest round trip between two members; an election starts after ten times it"]),
        ("/etc/grey/engine/bootstrap.json", "/var/lib/grey/engine/bootstrap.json", ["18: node.store.member.bootstrap_file: expected a path outside of data_dir, which is /var/lib/grey/engine; keep them apart"]),
        ("/etc/grey/engine/member.json", "/var/lib/grey/engine/member.json", ["17: node.store.member.marker_file: expected a path outside of data_dir, which is /var/lib/grey/engine; keep them apart"]),
        ("/var/lib/grey/fedstore", "/var/lib/grey/engine/fedstore", ["39: node.federation_store.member.data_dir: expected a path outside of node.store.member.data_dir, which is /var/lib/grey/engine; keep them apart"]),
    ],
)  # fmt: skip
def test_an_engine_refused(tmp_path: Path, with_etcd: str, old: str, new: str, expected: list[str]) -> None:
    assert old in with_etcd
    assert faults(tmp_path, with_etcd.replace(old, new)) == [f"grey.yaml:{fault}" for fault in expected]


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
        ("/etc/grey/fedstore/member.json", "/var/lib/grey/fedstore/member.json", ["28: node.federation_store.member.marker_file: expected a path outside of data_dir, which is /var/lib/grey/fedstore; keep them apart"]),
        ("/var/lib/grey/fedstore", "/var/lib/grey/data", ["27: node.federation_store.member.data_dir: expected a path outside of node.data_dir, which is /var/lib/grey/data; keep them apart"]),
        ("data_dir: /var/lib/grey/data ", "data_dir: data ", ['7: node.data_dir: expected an absolute path, found "data"; begin with / and use no .. and no / at the end']),
        ("client: 127.77.1.1:2379", "client: east.example.com:2379", ["30: node.federation_store.member.client: expected an IP address and a port, found the name east.example.com; write the address of this host on which greyds reach it"]),
        ("peer: 127.77.1.1:2380", "peer: 127.77.1.1:2379", ["31: node.federation_store.member.peer: 127.77.1.1:2379 is that of client; give each its own port"]),
        ("heartbeat: 100ms", "heartbeat: 6s", ["33: node.federation_store.member.heartbeat: expected 10ms to 5s, found 6s; write about the longest round trip between two members; an election starts after ten times it"]),
        ("quota: 256Mi", "quota: 32Mi", ["34: node.federation_store.member.quota: expected at least 64Mi, found 32Mi"]),
        ("retention: 10m", "retention: 10ms", ["35: node.federation_store.member.retention: expected at least 1s, found 10ms"]),
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
