# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.fake_api import FakeFederation

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def fake() -> Iterator[FakeFederation]:
    with FakeFederation(["aws-east", "gcp-west", "edge-chicago"]).run() as federation:
        yield federation
