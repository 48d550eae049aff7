# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is and what it reaches, measured on this one."""

from __future__ import annotations

import datetime
import platform
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.grey.distributed.plugins.module_utils import _hardware, _neighbours, _served, _x509
from ansible_collections.grey.distributed.tests.unit.harness import fails, passes, program, tree
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

HERE = "127.0.0.1"


def issue(name: str, issuer: Any = None, days: int = 30) -> tuple[Any, x509.Certificate]:
    """Return a key and a certificate, self-signed or by an issuer (its key and certificate)."""
    key = _x509.new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=60)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[1].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    return key, builder.sign(issuer[0] if issuer else key, hashes.SHA256())


class Files:
    """A certificate of an authority, in files."""

    def __init__(self, folder: Path, authority: Any, days: int = 60) -> None:
        folder.mkdir()
        key, certificate = issue("host", authority, days)
        self.cert, self.key = str(folder / "cert.pem"), str(folder / "key.pem")
        Path(self.cert).write_text(_x509.certificate_to_pem(certificate))
        Path(self.key).write_bytes(_x509.key_to_pem(key))
        self.authority = _x509.certificate_to_pem(authority[1])

    def served(self, port: int) -> _served.Served:
        return _served.look(HERE, port, cert_file=self.cert, key_file=self.key, authority=self.authority)


@pytest.fixture
def authority() -> Any:
    return issue("authority")


def serve(files: Files) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    with socket.create_server((HERE, 0)) as server:

        def answer() -> None:
            while True:
                try:
                    connection, _peer = server.accept()
                    with context.wrap_socket(connection, server_side=True) as secure:
                        secure.recv(1)
                except ssl.SSLError:
                    continue
                except OSError:
                    return

        threading.Thread(target=answer, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def test_the_served_certificate_is_compared(tmp_path: Path, authority: Any) -> None:
    own = Files(tmp_path / "own", authority)
    for files, expected in (
        (own, ("file", "")),
        (Files(tmp_path / "older", authority), ("other", "")),
        (Files(tmp_path / "over", authority, days=-1), ("refused", "certificate has expired")),
        (
            Files(tmp_path / "foreign", issue("another")),
            ("refused", "unable to get local issuer certificate"),
        ),
    ):
        for port in serve(files):
            found = own.served(port)
            assert (found.state, found.problem) == expected
    assert own.served(1) == _served.Served("silent", "Connection refused")
    Path(own.cert).write_text("nothing")
    assert own.served(1).problem.startswith("the files cannot be used: ")


def placed(address: str, cluster: str, **more: Any) -> dict[str, Any]:
    plain = {"engine": "sqlite", "voter": True, "member": False, "api_port": 8080, "control_port": 8443}
    return {"address": address, "cluster": cluster, **plain, **more}


def test_who_must_be_reached() -> None:
    hosts = {
        "a1": placed("192.0.2.1", "a", engine="etcd", member=True),
        "a2": placed("192.0.2.2", "a", engine="etcd"),
        "b1": placed("192.0.2.3", "b", member=True),
        "e1": placed("192.0.2.4", "e", voter=False),
    }
    witness = {**placed("192.0.2.5", "", member=True, engine=None), "cluster": None}
    ports = _neighbours.StorePorts(2379, 2380, 2390)

    def of(host: str) -> set[tuple[str, int]]:
        return {(each.host, each.port) for each in _neighbours.targets(host, hosts, ports)}

    assert of("a1") == {
        ("a2", 2390),
        ("b1", 8080),
        ("b1", 8443),
        ("b1", 2379),
        ("b1", 2380),
        ("e1", 8080),
        ("e1", 8443),
    }
    assert of("a2") == {
        ("a1", 2390),
        ("a1", 2379),
        ("b1", 8080),
        ("b1", 8443),
        ("b1", 2379),
        ("e1", 8080),
        ("e1", 8443),
    }
    assert of("e1") == {(host, port) for host in ("a1", "a2", "b1") for port in (8080, 8443)}
    hosts["w1"] = {**witness, "api_port": None, "control_port": None}
    assert of("w1") == {(host, port) for host in ("a1", "b1") for port in (2379, 2380)}
    assert of("a2") >= {("w1", 2379)}
    assert "w1" not in {host for host, _port in of("e1")}


def test_a_disk_is_measured_and_left_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    [disk] = _hardware.disks([str(folder), str(tmp_path)], measure=True)
    assert disk.path == str(tmp_path)
    assert disk.folders == (str(folder), str(tmp_path))
    assert disk.sync_ms is not None and disk.worst_sync_ms is not None
    assert 0 < disk.sync_ms <= disk.worst_sync_ms
    assert tree(tmp_path) == {}
    [disk] = _hardware.disks([str(tmp_path)], measure=False)
    assert (disk.sync_ms, disk.problem) == (None, "not measured in check mode")
    [disk] = _hardware.disks(["/proc"], measure=True)
    assert disk.problem.startswith("not measured: nothing can be written to /proc: ")


def test_memory_may_be_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_hardware, "_memory_bytes", lambda: 300 * _hardware.MIB)
    assert _hardware.memory_faults(300) == []
    assert _hardware.memory_faults(640) == [
        (
            "memory: wanted 640 MiB for what this host runs, found 300 MiB; take a larger host, or lower "
            "host_memory_mib, host_engine_memory_mib and host_store_memory_mib"
        )
    ]


def test_a_host_is_measured_in_one_call(tmp_path: Path) -> None:
    with socket.create_server((HERE, 0)) as server, socket.create_server((HERE, 0)) as gone:
        open_port, closed_port = server.getsockname()[1], gone.getsockname()[1]
        gone.close()
        own = placed(HERE, "a")
        other = placed("255.255.255.255", "b", api_port=9, control_port=closed_port)
        near = placed(HERE, "c", api_port=open_port, control_port=closed_port)
        args = {
            "host": "a1",
            "hosts": {"a1": own, "b1": other, "c1": near},
            "deployed_file": str(tmp_path / "identity.json"),
            "ports": [{"port": open_port, "purpose": "API"}, {"port": closed_port, "purpose": "control"}],
            "folders": [str(tmp_path)],
            "programs": {
                "etcd": program(tmp_path / "etcd", "print('etcd Version: 3.4.23')\n"),
                "greyd": "/no/greyd",
            },
            "certificates": [{"name": "federation", "authority": "federation", "common_name": "a"}],
            "files": {"federation": {"cert_file": "/no/c", "key_file": "/no/k", "ca_file": "/no/ca"}},
            "authorities": {"federation": ""},
        }
        answer = passes("grey_probe", args)
        assert not answer["changed"]
        assert answer["deployed"] is False
        assert answer["system"]["architecture"] == platform.machine()
        assert answer["machine"]["memory_mib"] > 0 and answer["machine"]["cores"] > 0
        assert answer["versions"] == {"etcd": "3.4.23", "greyd": None}
        assert answer["listens"] == {str(open_port): True, str(closed_port): False}
        assert answer["reached"] == 4
        assert [(each["host"], each["state"]) for each in answer["unreached"]] == [("b1", "unreachable")] * 2
        assert answer["certificates"] == [
            {"name": "federation", "there": False, "reasons": None, "until": None, "served": []}
        ]
        (tmp_path / "identity.json").write_text("{}")
        assert passes("grey_probe", args, check=True)["deployed"] is True


def test_wrong_parameters() -> None:
    assert fails("grey_probe", {}) == "missing required arguments: deployed_file, host, hosts"
