# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings from the environment reach the collection's finder; its own tests are with the collection."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import script

import get_etcd


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, a PATH without etcd, apt-get or dpkg-deb, and no settings."""
    folder = tmp_path / "home"
    monkeypatch.setattr(get_etcd, "HOME", folder)
    monkeypatch.setattr(get_etcd, "CHOSEN", folder / "path")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("GREY_ETCD_MIRROR", "http://127.0.0.1:1 http://127.0.0.1:2")
    for name in ("GREY_ETCD_ARCHIVE", "GREY_ETCD_SHA256", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "bin").mkdir()
    return folder


def test_what_is_found_is_written_down(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = script(tmp_path / "bin" / "etcd", "echo 'etcd Version: 3.4.0'")
    assert get_etcd.main() == 0
    assert (home / "path").read_text() == f"{good}\n"
    assert f"etcd: {good} (version 3.4.0, found in PATH)" in capsys.readouterr().out


def test_nothing_works_and_the_next_steps_are_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert get_etcd.main() == 2
    words = capsys.readouterr().err
    assert "127.0.0.1:1" in words and "127.0.0.1:2" in words
    assert "apt-get install etcd-server" in words and "GREY_ETCD_ARCHIVE=/path/to/it" in words
    assert not (home / "path").exists()


def test_a_local_archive_is_named_by_the_environment(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GREY_ETCD_ARCHIVE", str(tmp_path / "mine.tar.gz"))
    (tmp_path / "mine.tar.gz").write_bytes(b"not it")
    monkeypatch.setenv("GREY_ETCD_SHA256", "ab" * 32)
    assert get_etcd.main() == 2
    assert f"mine.tar.gz: wanted SHA-256 {'ab' * 32}, found" in capsys.readouterr().err


def test_what_restores_snapshots_is_found_or_missed_in_words(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script(tmp_path / "bin" / "etcd", "echo 'etcd Version: 3.4.0'")
    assert get_etcd.main() == 0
    assert (
        "nothing here, so their tests fail (as root: apt-get install etcd-client)" in capsys.readouterr().out
    )
    kept = script(home / "restorer" / "etcdctl", "exit 0")
    assert get_etcd.main() == 0
    assert f"snapshots are restored with {kept}" in capsys.readouterr().out
    own = script(tmp_path / "bin" / "etcdutl", "exit 0")
    assert get_etcd.main() == 0
    assert f"snapshots are restored with {own}" in capsys.readouterr().out
