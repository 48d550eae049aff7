# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module around the finder; the sources themselves are tested with it (module_utils/test_etcd.py)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from ansible_collections.grey.distributed.plugins.module_utils import _etcd
from ansible_collections.grey.distributed.tests.unit.harness import Script, fails, passes, program, tree


def test_script(tmp_path: Path) -> None:
    archive = _etcd.pack(
        Path(program(tmp_path / "etcd", "print('etcd Version: 3.5.21')\n")), tmp_path / "etcd.tar.gz"
    )
    cache = tmp_path / "cache"
    args = {"cache": str(cache), "archive": str(archive), "sources": ["kept", "archive"]}
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert "etcd.tar.gz: wanted SHA-256" in fails("grey_etcd", args)
    Script(
        "grey_etcd",
        lambda: {name: held for name, held in tree(tmp_path).items() if name.endswith("/etcd")},
        create={**args, "sha256": digest},
    ).play()
    found = passes("grey_etcd", {"cache": str(cache), "sources": ["kept"]})
    assert found["path"] == str(cache / "etcd" / _etcd.own_architecture() / "release-archive" / "etcd")
    assert found["version"] == "3.5.21"


def test_no_source_and_an_unknown_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    message = fails("grey_etcd", {"cache": str(tmp_path / "cache"), "sources": ["path"]})
    assert "no etcd 3.4 or newer for" in message and "PATH: no etcd there" in message
    assert "-e grey_etcd_archive=PATH" in message and "-e grey_bundle=PATH" in message
    message = fails("grey_etcd", {"cache": str(tmp_path / "cache"), "sources": ["web"]})
    assert message.startswith(
        "value of sources must be one or more of: path, kept, bundle, archive, package."
    )
