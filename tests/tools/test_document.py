# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is the source document's own stays as it is there, byte for byte."""

from __future__ import annotations

import hashlib

import pytest

import lint
from console import ROOT

# Of the block in the document, without its fences.
FEDERATION = "e5bd1b466cb28736c212a2424c94698911cf9eb5575d4403a389fd5f6c23864e"


@pytest.mark.parametrize("name", [lint.DOCUMENTS_OWN, "node/tests/config/data/federation.yaml"])
def test_the_federation_file_is_the_documents_block_with_its_trailing_spaces(name: str) -> None:
    assert hashlib.sha256((ROOT / name).read_bytes()).hexdigest() == FEDERATION
