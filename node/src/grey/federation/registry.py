# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose data each cluster holds, so that a data folder that was replaced is noticed."""

from __future__ import annotations

import msgspec

from grey.federation import records
from grey.federation.interface import FederationStore


class DataReplaced(Exception):
    """A cluster came with other data than it registered; the message says what to do."""


class SwapRefused(Exception):
    """Placeholder until the remote store exists."""
