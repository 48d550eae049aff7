# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import TYPE_CHECKING

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
