# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of a snapshot: whole or not there, and whatever was done to it is noticed."""

from __future__ import annotations

import errno
import hashlib
import tarfile
from typing import TYPE_CHECKING

import pytest

from grey.store.interface import DiskFull, StoreDamaged, StoreError
from grey.store.snapshot_file import Draft, extract, read_manifest

if TYPE_CHECKING:
    from pathlib import Path

DATA = bytes(range(256)) * 5


def made(path: Path) -> Path:
    with Draft(path) as draft:
        for start in range(0, len(DATA), 100):
            draft.write(DATA[start : start + 100])
        assert draft.data() == DATA
        assert (draft.size, draft.sha256) == (len(DATA), hashlib.sha256(DATA).hexdigest())
        draft.finish(b'{"a": 1}')
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = made(tmp_path / "snapshot")
    assert read_manifest(path) == b'{"a": 1}'
    assert extract(path, tmp_path / "copy") == (len(DATA), hashlib.sha256(DATA).hexdigest())
    assert (tmp_path / "copy").read_bytes() == DATA
    assert [each.stat().st_mode & 0o777 for each in (path, tmp_path / "copy")] == [0o600, 0o600]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["copy", "snapshot"]


def test_any_tar_reads_it(tmp_path: Path) -> None:
    with tarfile.open(made(tmp_path / "snapshot")) as archive:
        assert archive.getnames() == ["data", "manifest.json"]


def test_nothing_is_left_of_one_that_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Draft(tmp_path / "snapshot") as draft:
        draft.write(DATA)
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_it_replaces_nothing(tmp_path: Path) -> None:
    path = made(tmp_path / "snapshot")
    with pytest.raises(StoreError, match="exists already"):
        Draft(path)
    assert read_manifest(path) == b'{"a": 1}'


def test_two_do_not_write_one_file(tmp_path: Path) -> None:
    with Draft(tmp_path / "snapshot"), pytest.raises(StoreError, match="another snapshot is being written"):
        Draft(tmp_path / "snapshot")


def test_what_a_killed_one_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "snapshot.part").write_bytes(bytes(100_000))
    made(tmp_path / "snapshot")
    assert extract(tmp_path / "snapshot", tmp_path / "copy")[0] == len(DATA)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"write the snapshot.*none/snapshot.part: No such file"):
        Draft(tmp_path / "none" / "snapshot")


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Draft(tmp_path / "snapshot") as draft:
        draft.write(DATA)
        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(DiskFull, match=r"No space left on device. Make room"):
            draft.finish(b"{}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, 511, 512, 600, 1024, 2047, 2048, 2500])
def test_one_that_was_cut_short_is_refused(tmp_path: Path, size: int) -> None:
    path = made(tmp_path / "snapshot")
    assert path.stat().st_size > size
    with path.open("r+b") as file:
        file.truncate(size)
    with pytest.raises(StoreDamaged, match="no whole snapshot"):
        read_manifest(path)


def test_what_is_no_snapshot_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no tar\n" * 1000)
    with pytest.raises(StoreDamaged, match="no whole snapshot"):
        read_manifest(tmp_path / "text")
    with pytest.raises(StoreError, match="cannot be read: No such file"):
        read_manifest(tmp_path / "none")
    with tarfile.open(tmp_path / "other", "w") as archive:
        archive.add(tmp_path / "text", "other")
    with pytest.raises(StoreDamaged, match=r"holds no manifest.json"):
        read_manifest(tmp_path / "other")
