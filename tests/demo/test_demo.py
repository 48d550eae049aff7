# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole demo, end to end: each test goes on from where the one before it left the demo."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from machine import HOSTS, Demo, Writer, wait_for

WHOLE = Counter(supervisord=3, etcd=3, greyd=3)


def changes(output: str) -> int:
    """Return the number of changes that make demo counted."""
    (number,) = re.findall(r"^(\d+) changes?: ", output, re.MULTILINE)
    return int(number)


def assert_whole(demo: Demo) -> None:
    """Nothing is missing, nothing is left over, and every cluster has its role."""
    assert Counter(demo.processes().values()) == WHOLE
    assert demo.status() == {"aws-east": "primary", "gcp-west": "replica", "edge-chicago": "replica"}


def assert_nothing_lost(demo: Demo, writer: Writer) -> None:
    """Every acknowledged write is on every cluster."""
    assert writer.acknowledged, "the writer got nothing acknowledged: the test shows nothing"
    for cluster in HOSTS:
        wait_for(
            lambda cluster=cluster: writer.acknowledged <= demo.values(cluster, writer.prefix).keys(),
            f"{len(writer.acknowledged)} acknowledged writes on {cluster}",
        )


def snapshot(folder: Path) -> dict[str, str]:
    """Return the digest of each file that a deployment writes, without what programs write as they run."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not re.search(r"/(var|run)/", str(path))
    }


def test_make_demo_deploys_the_documents_federation(demo: Demo) -> None:
    output = demo.make("demo").stdout
    assert changes(output) > 0
    for row in (r"aws-east\s+│ ● Primary", r"gcp-west\s+│ ● Replica", r"edge-chicago\s+│ ● Replica"):
        assert re.search(row, output), row
    assert re.search(r"^etcd: /\S+ \(version 3\.", output, re.MULTILINE)
    assert "grey-ctl kv put" in output and "make demo-clean" in output
    assert_whole(demo)


def test_nothing_runs_with_rights(demo: Demo) -> None:
    wanted = demo.user.pw_uid if demo.user else os.geteuid()
    for pid in demo.processes():
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.search(rf"^Uid:\t{wanted}\t{wanted}\t{wanted}\t{wanted}$", status, re.MULTILINE)
    keys = [path for path in demo.root.rglob("*key.pem") if path.is_file()]
    assert len(keys) >= 6
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}


def test_again_changes_nothing(demo: Demo) -> None:
    before = demo.processes(), snapshot(demo.root)
    output = demo.make("demo").stdout
    assert changes(output) == 0 and "everything was already as the federation file says" in output
    assert (demo.processes(), snapshot(demo.root)) == before


def test_the_inventory_plugin_knows_the_live_role(demo: Demo) -> None:
    """The control plane is believed, not the file, whose roles count for the first start only."""
    folder = demo.checkout / "live"
    folder.mkdir()
    text = (demo.checkout / "inventories" / "local" / "federation.yaml").read_text()
    swapped = {
        "role: primary": "role: replica",
        "us-west1\n      role: replica": "us-west1\n      role: primary",
    }
    for old, new in swapped.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "federation.yaml").write_text(text)
    (folder / "grey.yml").write_text(
        "plugin: grey.distributed.federation\nhosts: {gcp-west: {gcp-west-1: }}\n"
    )
    said = demo.ansible("ansible-inventory", "-i", "live/grey.yml", "--list", apart=True)
    found = json.loads(said.stdout)
    assert found["role_primary"]["children"] == ["cluster_aws_east"], said.stderr
    values = found["_meta"]["hostvars"]["gcp-west-1"]
    assert [values[f"grey_{name}"] for name in ("role", "role_source", "epoch", "online")] == [
        "replica",
        "live",
        1,
        True,
    ]
    shutil.rmtree(folder)


def test_check_mode_tells_the_truth_and_changes_nothing(demo: Demo) -> None:
    before = demo.processes(), snapshot(demo.root)
    assert set(re.findall(r"changed=(\d+)", demo.playbook("--check", "--diff").stdout)) == {"0"}
    own = (demo.checkout / "inventories" / "local" / "federation.yaml").read_text(encoding="utf-8")
    changed = demo.checkout / "changed.yaml"
    changed.write_text(own.replace("interval: 100ms", "interval: 200ms"), encoding="utf-8")
    output = demo.playbook("--check", "--diff", "-e", f"grey_federation_file={changed}").stdout
    assert set(re.findall(r"changed=(\d+)", output)) != {"0"} and "200ms" in output
    assert (demo.processes(), snapshot(demo.root)) == before


def test_a_wrong_file_is_refused_before_any_host_is_touched(demo: Demo) -> None:
    own = (demo.checkout / "inventories" / "local" / "federation.yaml").read_text(encoding="utf-8")
    wrong = demo.checkout / "wrong.yaml"
    wrong.write_text(own.replace("batch_size: 1000", "batchsize: 1000"), encoding="utf-8")
    before = demo.processes(), snapshot(demo.root)
    done = demo.playbook("-e", f"grey_federation_file={wrong}", check=False)
    line = own[: own.index("batch_size")].count("\n") + 1
    assert done.returncode != 0
    assert f"wrong.yaml:{line}" in done.stdout and "batchsize" in done.stdout and "batch_size" in done.stdout
    assert (demo.processes(), snapshot(demo.root)) == before


def test_a_cluster_that_stays_away_says_why(demo: Demo) -> None:
    file = demo.root / "gcp-west-1" / "etc" / "grey" / "grey.yaml"
    before = file.read_text(encoding="utf-8")
    assert "mode: cluster" in before
    file.write_text(before.replace("mode: cluster", "mode: clustr"), encoding="utf-8")
    demo.kill("greyd")
    # What it reported last counts for a while; the others come back within that time on a quick machine.
    wait_for(lambda: demo.status(check=False).get("gcp-west") == "offline", "gcp-west to be missed", 120)
    done = demo.playbook("--tags", "federation", "-e", "grey_federation_wait=15", check=False)
    assert done.returncode != 0
    assert re.search(
        r"gcp-west-1:\n +greyd: .*/grey\.yaml:\d+: node\.mode: expected one of cluster", done.stdout
    )
    file.write_text(before, encoding="utf-8")
    demo.make("demo")
    assert_whole(demo)


def test_a_write_on_the_primary_is_read_on_the_others(demo: Demo) -> None:
    demo.grey_ctl("kv", "put", "user:123", "Ada")
    for cluster in HOSTS:
        wait_for(
            lambda cluster=cluster: (
                demo.grey_ctl("kv", "get", "user:123", "--cluster", cluster, check=False).stdout.strip()
                == "Ada"
            ),
            f"the write on {cluster}",
            10,
        )
    assert demo.grey_ctl("kv", "get", "user:123", "--consistency", "strong").stdout.strip() == "Ada"


def test_killed_nodes_come_back_by_themselves_and_nothing_is_lost(demo: Demo) -> None:
    with Writer(demo, "nodes:") as writer:
        wait_for(lambda: len(writer.acknowledged) > 50, "some writes")
        demo.kill("greyd")
        before = len(writer.acknowledged)
        wait_for(lambda: len(writer.acknowledged) > before + 50, "writes after the kill")
    assert_nothing_lost(demo, writer)
    assert_whole(demo)


def test_a_killed_federation_store_comes_back_by_itself(demo: Demo) -> None:
    with Writer(demo, "store:") as writer:
        wait_for(lambda: len(writer.acknowledged) > 50, "some writes")
        demo.kill("etcd")
        wait_for(lambda: Counter(demo.processes().values()) == WHOLE, "the members to be back")
    assert_nothing_lost(demo, writer)
    wait_for(lambda: demo.status()["aws-east"] == "primary", "the primary to be confirmed again")


def test_everything_killed_a_port_taken_then_all_comes_back_with_nothing_lost(demo: Demo) -> None:
    with Writer(demo, "all:") as writer:
        wait_for(lambda: len(writer.acknowledged) > 50, "some writes")
        killed = demo.kill()
    assert len(killed) >= sum(WHOLE.values())
    with socket.create_server((demo.address("aws-east"), 8080)):
        refused = demo.make("demo", check=False)
        assert refused.returncode != 0
        assert re.search(
            r"port 8080.*wanted it free on " + re.escape(demo.address("aws-east")), refused.stdout, re.DOTALL
        )
        assert "run make demo again" in refused.stdout
        assert not demo.processes(), "nothing is started while a port is taken"
    assert changes(demo.make("demo").stdout) > 0
    assert_whole(demo)
    assert_nothing_lost(demo, writer)
    assert changes(demo.make("demo").stdout) == 0


def test_killed_supervisors_leave_no_orphans_behind(demo: Demo) -> None:
    demo.kill("supervisord")
    orphans = demo.processes()
    assert Counter(orphans.values()) == Counter(etcd=3, greyd=3)
    assert changes(demo.make("demo").stdout) > 0
    assert_whole(demo)
    assert not set(orphans) & {pid for pid, kind in demo.processes().items() if kind == "supervisord"}
    assert changes(demo.make("demo").stdout) == 0


@pytest.mark.parametrize("fault", ["tampered", "foreign", "expired"])
def test_a_bad_certificate_is_replaced(demo: Demo, fault: str) -> None:
    leaf = demo.root / "gcp-west-1" / "etc" / "grey" / "federation-cert.pem"
    whole = leaf.read_text()
    if fault == "tampered":
        lines = whole.splitlines()
        lines[2] = lines[2][::-1]
        leaf.write_text("\n".join(lines) + "\n")
    elif fault == "foreign":
        shutil.copyfile(demo.root / "aws-east-1" / "etc" / "grey" / "federation-cert.pem", leaf)
    else:
        leaf.write_text(expired(whole, demo.root / "controller" / "authority" / "federation"))
    broken = leaf.read_text()
    assert changes(demo.make("demo").stdout) > 0
    assert leaf.read_text() != broken
    assert_whole(demo)
    assert changes(demo.make("demo").stdout) == 0


def expired(pem: str, authority: Path) -> str:
    """Return the certificate as it will be when its time is over, signed by its own authority."""
    leaf = x509.load_pem_x509_certificate(pem.encode())
    issuer = x509.load_pem_x509_certificate((authority / "cert.pem").read_bytes())
    key = serialization.load_pem_private_key((authority / "key.pem").read_bytes(), None)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(leaf.subject)
        .issuer_name(issuer.subject)
        .public_key(leaf.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=3))
        .not_valid_after(now - timedelta(hours=1))
    )
    for extension in leaf.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    signed = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def test_an_emptied_data_folder_is_refused_with_the_next_step(demo: Demo) -> None:
    data = demo.root / "edge-chicago-1" / "var" / "lib" / "grey" / "data"
    kept = demo.root.parent / "kept"
    demo.kill("supervisord", "greyd")
    data.rename(kept)
    refused = demo.make("demo", check=False)
    assert refused.returncode != 0
    assert (
        "is gone" in refused.stdout
        and "identity.json" in refused.stdout
        and "edge-chicago-1" in refused.stdout
    )
    assert not (data / "data.sqlite").exists(), "data is never made anew in silence"
    if data.exists():
        shutil.rmtree(data)
    kept.rename(data)
    demo.make("demo")
    assert_whole(demo)
    assert demo.grey_ctl("kv", "get", "user:123", "--cluster", "edge-chicago").stdout.strip() == "Ada"


def test_status_shows_the_table(demo: Demo) -> None:
    assert re.search(r"aws-east\s+│ ● Primary", demo.make("status").stdout)
    query = ["federation", "status", "--federation", "global-grey", "-o", "json", "--query", "primary"]
    assert json.loads(demo.grey_ctl(*query).stdout) == "aws-east"


def test_clean_leaves_nothing(demo: Demo) -> None:
    demo.make("demo-clean")
    assert demo.processes() == {}
    assert not demo.root.exists()
    assert "nothing to clean" in demo.make("demo-clean").stdout
    assert demo.make("status", check=False).returncode != 0
