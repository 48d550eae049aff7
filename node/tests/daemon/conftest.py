# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio
from support.federation import running_federation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest
    from support.federation import RunningFederation


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def federation(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningFederation]:
    # The fourth cluster has no vote: it reaches the federation store through the control planes only.
    clusters = ("aws-east", "gcp-west", "edge-chicago", "edge-london")
    async with running_federation(tmp_path_factory.mktemp("federation"), clusters=clusters) as running:
        assert running.voters == set(clusters[:3])
        yield running
