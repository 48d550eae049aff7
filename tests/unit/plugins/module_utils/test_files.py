# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An operating system's error names a next step that helps."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.grey.distributed.plugins.module_utils import _files


def explained(source: Path, target: Path) -> str:
    with pytest.raises(FileNotFoundError) as caught:
        source.replace(target)
    return str(_files.explain(caught.value, target))


def test_a_file_that_vanished_is_not_a_missing_folder(tmp_path: Path) -> None:
    words = explained(tmp_path / "cert.pem.new", tmp_path / "cert.pem")
    assert words.startswith(f"{tmp_path}/cert.pem.new: No such file or directory; the folder above is there")
    assert "no other key of the configuration uses this path" in words and "prepare" not in words


def test_a_missing_folder_is_made_by_the_phase_before(tmp_path: Path) -> None:
    words = explained(tmp_path / "no" / "cert.pem.new", tmp_path / "cert.pem")
    assert words.endswith("the folder above does not exist: run the phase 'prepare' first")
