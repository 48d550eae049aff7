# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``grey-ctl doctor`` on a host where nothing runs, and where one thing after the other is wrong."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from cli.doctor_host import DOMAIN, HOST, Host

from grey.cli.doctor import listeners
from grey.link.tls import server_context

if TYPE_CHECKING:
    from support.pki import Authority


@pytest.fixture
def host(tmp_path: Path, authority: Authority) -> Host:
    return Host(tmp_path, authority)


def test_a_host_whose_greyd_is_down_has_one_problem(host: Host) -> None:
    report = host.report()
    assert (report["ok"], report["node"], report["cluster"], report["federation"]) == (
        False,
        "a-1",
        "a",
        "test",
    )
    problems = [each for each in report["findings"] if each["state"] == "problem"]
    assert [(each["area"], each["found"]) for each in problems] == [("health", "greyd does not run")]
    assert problems[0]["next"].startswith("start greyd")
    assert {each["area"] for each in report["findings"]} == {
        "files", "certificates", "clock", "disk", "ports", "health", "engine", "network",
    }  # fmt: skip
    for each in report["findings"]:
        assert (each["next"] is None) == (each["state"] == "ok"), each


def test_the_query_that_its_help_shows(host: Host) -> None:
    done = host.run("-o", "json", "--query", "findings[?state=='problem'].area")
    assert json.loads(done.stdout) == ["health"]


def test_for_people(host: Host) -> None:
    done = host.run()
    assert "│ health       │ greyd           │ problem │ greyd does not run" in done.stdout
    assert "=> start greyd (systemctl start greyd" in done.stdout
    assert "\na-1 of a: 1 problem, " in done.stdout
    assert done.stderr == "grey-ctl: found 1 problem; each has its next step beside it\n"
    assert done.exit_code == 1


def test_no_node_file(host: Host) -> None:
    host.node_file.unlink()
    ((check, found, step),) = host.findings("files", "problem")
    assert (check, found) == ("node file", f"{host.node_file} does not exist")
    assert "--node-file" in step


def test_wrong_files_say_every_fault(host: Host) -> None:
    host.node["listen"]["api"] = host.node["listen"]["control"] = 99999
    host.write()
    assert len(host.findings("files", "problem")) == 2
    host.node["listen"] |= {"api": host.api, "control": host.control}
    host.federation["topology"] = "ring"
    host.write()
    ((check, found, _),) = host.findings("files", "problem")
    assert (check, "federation.topology" in found) == ("federation file", True)
    assert host.findings("engine", "ok")
    host.federation["topology"] = "active-passive"
    host.node["cluster"] = "c"
    host.write()
    ((_, found, _),) = host.findings("files", "problem")
    assert found.endswith("has no cluster c, only a, b")


def test_the_identity_and_the_data(host: Host) -> None:
    identity, data = host.folder / "identity.json", host.data / "data.sqlite"
    whole = data.read_bytes()
    data.write_bytes(b"")
    assert "is no data store of Grey" in host.findings("engine", "problem")[0][1]
    data.write_bytes(whole[:-1])
    assert "ends in the middle of a page" in host.findings("engine", "problem")[0][1]
    data.write_bytes(whole[:63] + b"\x09" + whole[64:])
    assert "has schema version 9" in host.findings("engine", "problem")[0][1]
    data.unlink()
    assert "says that there was data" in host.findings("engine", "problem")[0][1]
    identity.unlink()
    assert host.findings("engine", "problem") == []
    assert host.findings("files", "warning") == [
        ("identity", f"{identity} does not exist: this node has no data yet", "run greyd init")
    ]
    identity.write_text("[]")
    assert host.findings("files", "problem")[0][1] == f"{identity} does not hold an identity"


def test_the_data_folder(host: Host) -> None:
    host.data.chmod(0o755)
    ((check, _, step),) = host.findings("files", "warning")
    assert (check, step) == ("data folder", f"chmod 700 {host.data}")
    host.data.chmod(0o700)
    if os.geteuid() == 0:
        os.chown(host.data / "data.sqlite", 65534, 65534)
        ((_, found, _),) = host.findings("files", "problem")
        assert "is of root, but files in it are of " in found


def test_the_doctor_changes_nothing(host: Host) -> None:
    def state() -> list[tuple[str, int, int, bytes]]:
        files = sorted(each for each in host.folder.rglob("*") if each.is_file())
        return [
            (str(each), each.stat().st_mtime_ns, each.stat().st_mode, each.read_bytes()) for each in files
        ]

    before = state()
    host.report()
    assert state() == before


def test_an_expired_certificate(host: Host) -> None:
    host.authority.issue(host.folder / "tls", "a", dns=[f"a.{DOMAIN}", HOST], expired=True)
    ((check, found, step),) = host.findings("certificates", "problem")
    assert (check, "the certificate expired on " in found) == ("node", True)
    assert "rotate_certs.yml" in step


def test_a_certificate_with_other_names(host: Host) -> None:
    host.authority.issue(host.folder / "tls", "a", dns=["b.grey.test", HOST])
    assert "must carry the DNS name a.grey.test" in host.findings("certificates", "problem")[0][1]
    host.authority.issue(host.folder / "tls", "a", dns=["a.grey.test"])
    assert f"does not carry {HOST}" in host.findings("certificates", "problem")[0][1]


def test_who_may_read_the_key(host: Host) -> None:
    key = Path(host.tls.key_file)
    key.chmod(0o640)
    ((_, found, step),) = host.findings("certificates", "warning")
    assert f"the private key {key} can be read by the group " in found
    assert step == f"chmod 600 {key}"
    key.chmod(0o604)
    assert "can be used by everybody (mode 0604)" in host.findings("certificates", "problem")[0][1]
    key.unlink()
    assert "the private key does not exist" in host.findings("certificates", "problem")[0][1]


def test_a_foreign_bundle(host: Host) -> None:
    other = type(host.authority)("another authority")
    Path(host.tls.ca_file).write_bytes(other.pem)
    assert "was not issued by a CA of" in host.findings("certificates", "problem")[0][1]


def test_an_address_that_is_not_of_this_host(host: Host) -> None:
    host.node["listen"]["address"] = "198.51.100.7"
    host.write()
    report = host.findings("ports", "problem")
    assert {found for _, found, _ in report} <= {
        "198.51.100.7 is no address of this host",
        *(f"198.51.100.7:{port}: no connection within 2 s: the program there hangs" for port in
          (host.api, host.control, host.metrics)),
        *(f"198.51.100.7:{port}: network is unreachable" for port in (host.api, host.control, host.metrics)),
    }  # fmt: skip
    assert len(report) == 3


def test_another_program_on_a_port(host: Host) -> None:
    with closing(socket.create_server((host.address, host.api))):
        found = {check: text for check, text, _ in host.findings("ports", "problem")}
    assert found["api"].startswith(f"{host.address}:{host.api} does not speak TLS as greyd does")
    assert f"it is pid {os.getpid()} (" in found["api"]
    assert found["control"] == f"nobody listens on {host.address}:{host.control}"


def test_a_port_that_is_bound_but_not_listened_on(host: Host) -> None:
    with closing(socket.socket()) as held:
        held.bind((host.address, host.metrics))
        ((check, found, _),) = host.findings("ports", "problem")
    assert check == "metrics"
    assert "is held by another program, but nobody answers there" in found


async def test_another_program_on_the_metrics_port(host: Host) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, host.address, host.metrics)
    async with server:
        found = await asyncio.to_thread(host.findings, "ports", "problem")
    assert any("does not answer as greyd does (its answer is no health page)" in text for _, text, _ in found)


async def test_a_certificate_that_is_not_the_one_on_disk(host: Host) -> None:
    """The served one counts: a node that did not take its new files is found before the old one ends."""

    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    context = server_context(host.tls, mutual=True, node_to_node=True)
    server = await asyncio.start_server(nothing, host.address, host.control, ssl=context)
    async with server:
        assert any(
            found == f"{host.address}:{host.control} answers, with the certificate on disk"
            for _, found, _ in await asyncio.to_thread(host.findings, "ports", "ok")
        )
        host.authority.issue(host.folder / "tls", "a", dns=[f"a.{DOMAIN}", HOST])
        ((check, found, _),) = await asyncio.to_thread(host.findings, "ports", "warning")
    assert check == "control"
    assert found.startswith(f"{host.address}:{host.control} serves another certificate (serial ")


@pytest.mark.parametrize(
    ("status", "state", "said"),
    [
        (200, "ok", "answers in "),
        (403, "problem", "does not admit this cluster's certificate"),
        (500, "warning", "answers with status 500"),
    ],
)
async def test_what_another_cluster_answers(host: Host, status: int, state: str, said: str) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({}, status=status)

    tls = host.authority.issue(host.folder / "b", "b", dns=[f"b.{DOMAIN}"])
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    try:
        context = server_context(tls, mutual=True, node_to_node=True)
        await web.TCPSite(runner, host.address, host.control, ssl_context=context).start()
        found = await asyncio.to_thread(host.findings, "network", state)
        assert [(check, said in text) for check, text, _ in found] == [("b", True)]
        clock = await asyncio.to_thread(host.findings, "clock", "ok")
        assert ("offset", True) in [(check, text.startswith("agrees with b")) for check, text, _ in clock]
    finally:
        await runner.cleanup()


def test_the_other_cluster_is_not_there(host: Host) -> None:
    ((check, found, step),) = host.findings("network", "warning")
    assert check == "b"
    assert found == f"b ({host.address}:{host.control}) cannot be reached: connection refused"
    assert "see that greyd runs there" in step


def test_a_federation_store_that_is_not_there(host: Host) -> None:
    host.node["federation_store"] = {
        "endpoints": [f"{host.address}:{host.api}", f"{host.address}:{host.control}"],
        "tls": host.node["tls"],
        "member": {
            "name": "a-1",
            "etcd": "/no/such/etcd",
            "data_dir": str(host.folder / "store"),
            "marker_file": str(host.folder / "member.json"),
            "bootstrap_file": str(host.folder / "bootstrap.json"),
            "client": f"{host.address}:{host.api}",
            "peer": f"{host.address}:{host.metrics}",
            "tls": host.node["tls"],
        },
    }
    host.write()
    (host.folder / "member.json").write_text('{"state": "member"}')
    problems = {check: found for check, found, _ in host.findings("federation store", "problem")}
    assert problems["program"] == "/no/such/etcd cannot be run"
    assert "its data in" in problems["member"]
    assert problems["majority"].startswith("0 of 2 members answer, and no majority")
    (host.folder / "member.json").write_text("{")
    problems = {check: found for check, found, _ in host.findings("federation store", "problem")}
    assert problems["member"] == f"{host.folder}/member.json cannot be read"
    (host.folder / "member.json").write_text('{"state": "bootstrapping"}')
    warnings = {check: found for check, found, _ in host.findings("federation store", "warning")}
    assert warnings["member"] == "a-1 has not been part of a healthy majority yet"


def test_an_engine_that_is_not_there(host: Host) -> None:
    host.node["store"] = {"engine": "etcd", "endpoint": f"unix:{host.folder}/etcd:0"}
    host.write()
    assert (
        host.findings("engine", "problem")[0][1] == f"{host.folder}/etcd:0 does not exist: etcd does not run"
    )
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(f"{host.folder}/etcd:0")
        assert "does not answer" in host.findings("engine", "warning", "problem")[0][1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_as_a_user_who_may_not_read(authority: Authority) -> None:
    """What cannot be looked at is said, with the way to look at it; it is no traceback."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        host = Host(Path(folder), authority)
        for each in (host.node_file, host.folder / "federation.yaml", Path(host.tls.cert_file)):
            each.chmod(0o644)
        host.report()  # loads everything: the interpreter's own files may be root's alone
        os.seteuid(65534)
        try:
            found = host.findings("certificates", "warning") + host.findings("engine", "warning")
        finally:
            os.seteuid(0)
    step = "run grey-ctl doctor as root or as the user that runs greyd"
    assert [(check, text.rpartition(" by ")[0], each) for check, text, each in found] == [
        ("node", f"{host.tls.ca_file} cannot be read", step),
        ("data file", f"{host.data}/data.sqlite cannot be read", step),
    ]


def test_who_listens() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        assert (listeners.holder("127.0.0.1", port) or "").startswith(f"pid {os.getpid()} (")
        # Another node of the demo may have the same port on its own address.
        assert listeners.holder("127.0.0.2", port) is None
    assert listeners.holder("127.0.0.1", port) is None
    with closing(socket.create_server(("", port))):
        assert listeners.holder("127.0.0.2", port) is not None
    if socket.has_ipv6:
        with closing(socket.create_server(("::1", 0), family=socket.AF_INET6)) as server:
            assert listeners.holder("::1", server.getsockname()[1]) is not None
