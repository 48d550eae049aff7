# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import grp
import os
import pwd
from typing import TYPE_CHECKING

import pytest
from ansible_collections.grey.distributed.tests.unit.harness import Script, fails, passes, tree

if TYPE_CHECKING:
    from pathlib import Path


def test_script(tmp_path: Path) -> None:
    folder, file = tmp_path / "a" / "b", tmp_path / "a" / "b" / "file"
    Script(
        "grey_files",
        lambda: tree(tmp_path),
        wrong=[
            (
                {"files": [{"path": str(file), "content": "x", "mode": "rw"}]},
                "mode: wanted octal permission bits such as 0640, found 'rw'",
            ),
            ({"files": [{"path": str(file)}]}, "missing required arguments: content found in files"),
            (
                {"absent": ["/etc"]},
                "refused to remove '/etc': wanted an absolute path of at least two levels",
            ),
        ],
        create={"folders": [str(folder)], "files": [{"path": str(file), "content": "one\n"}]},
        update={
            "folders": [str(folder)],
            "folder_mode": "0700",
            "files": [{"path": str(file), "content": "two\n", "mode": "0600"}],
        },
        absent={"absent": [str(folder)], "prune": [str(tmp_path / "a")]},
    ).play()
    assert tree(tmp_path) == {}


def test_a_changed_mode_alone_is_a_change(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    file.chmod(0o644)
    answer = passes("grey_files", {"files": [{"path": str(file), "content": "x", "mode": "0600"}]})
    assert answer["changed"]
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_diff_shows_both_contents(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old\n")
    file.chmod(0o644)
    answer = passes("grey_files", {"files": [{"path": str(file), "content": "new\n"}]}, check=True)
    assert [(part["before"], part["after"]) for part in answer["diff"]] == [
        ("# mode 0644\nold\n", "# mode 0644\nnew\n")
    ]


def test_a_secret_is_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("sesame")
    file.chmod(0o644)
    wanted = {"path": str(file), "content": "open sesame", "secret": True}
    answer = passes("grey_files", {"files": [wanted]})
    # The parameters come back under 'invocation' only, which the task has to hide with no_log.
    assert [(part["before"], part["after"]) for part in answer["diff"]] == [
        ("# mode 0644\n(content hidden)\n", "# mode 0644\n(other content, hidden)\n")
    ]


def test_a_folder_in_the_way_of_a_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    message = fails("grey_files", {"files": [{"path": str(tmp_path / "file"), "content": "x"}]})
    assert message == f"{tmp_path}/file: wanted a file, found a folder: move it away and run again"


def test_a_file_in_the_way_of_a_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("")
    message = fails("grey_files", {"folders": [str(tmp_path / "folder")]})
    assert message == f"{tmp_path}/folder: wanted a folder, found a file: move it away and run again"


def test_prune_leaves_what_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").write_text("")
    assert not passes("grey_files", {"prune": [str(tmp_path / "folder")]})["changed"]
    assert (tmp_path / "folder" / "kept").exists()


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "file"
    file.write_text("old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    message = fails("grey_files", {"files": [{"path": str(file), "content": "new"}]})
    assert "No space left on device; the file system is full: make room and run again" in message
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert file.read_text() == "old"


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@needs_root
def test_owners_are_given_and_their_drift_is_a_change(tmp_path: Path) -> None:
    user, group = pwd.getpwnam("nobody"), grp.getgrgid(pwd.getpwnam("nobody").pw_gid)
    folder, file = tmp_path / "folder", tmp_path / "folder" / "file"
    plain = tmp_path / "plain"
    wanted = {
        "folders": [str(folder)],
        "plain_folders": [str(plain)],
        "files": [{"path": str(file), "content": "x"}],
        "owner": user.pw_name,
        "group": group.gr_name,
    }
    Script("grey_files", lambda: tree(tmp_path), create=wanted).play()
    assert [(path.stat().st_uid, path.stat().st_gid) for path in (folder, file)] == [
        (user.pw_uid, group.gr_gid)
    ] * 2
    assert plain.stat().st_uid == 0
    os.chown(file, 0, -1)
    os.chown(folder, 0, 0)
    answer = passes("grey_files", wanted)
    assert [(part["before"], part["after"]) for part in answer["diff"]] == [
        (
            "folder, mode 0755, owner root:root\n",
            f"folder, mode 0755, owner {user.pw_name}:{group.gr_name}\n",
        ),
        (
            f"# mode 0644, owner root:{group.gr_name}\nx\n",
            f"# mode 0644, owner {user.pw_name}:{group.gr_name}\nx\n",
        ),
    ]
    assert file.stat().st_uid == user.pw_uid
    assert not passes("grey_files", {**wanted, "owner": "", "group": ""})["changed"]


def test_an_owner_who_is_not_there_is_foreseen_and_refused(tmp_path: Path) -> None:
    wanted = {"folders": [str(tmp_path / "folder")], "owner": "nobody-of-grey"}
    answer = passes("grey_files", wanted, check=True)
    assert [part["after"] for part in answer["diff"]] == ["folder, mode 0755, owner nobody-of-grey:\n"]
    assert fails("grey_files", wanted) == (
        "owner: wanted the user nobody-of-grey on this host, found none: make it, then run again"
    )
    assert fails("grey_files", {"folders": [str(tmp_path)], "group": "nobody-of-grey"}).startswith(
        "owner: wanted the group nobody-of-grey on this host, found none"
    )


@needs_root
def test_nothing_is_given_away_through_a_link_of_its_owner(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.mkdir()
    link.symlink_to(target)
    wanted = {"folders": [str(link)], "owner": "nobody"}
    os.chown(link, pwd.getpwnam("nobody").pw_uid, -1, follow_symlinks=False)
    assert fails("grey_files", wanted).startswith(f"{link}: wanted a file or folder, found a link of another")
    assert target.stat().st_uid == 0
    # An administrator's link is followed.
    os.chown(link, 0, 0, follow_symlinks=False)
    assert passes("grey_files", wanted)["changed"]
    assert target.stat().st_uid == pwd.getpwnam("nobody").pw_uid
