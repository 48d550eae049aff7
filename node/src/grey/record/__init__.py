# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What travels between clusters: the envelope of a value and the orders that it is compared by."""

from grey.record.clock import HybridClock, Stamp, SteadyClock
from grey.record.envelope import Envelope, RequestRef
from grey.record.position import Position

__all__ = ["Envelope", "HybridClock", "Position", "RequestRef", "Stamp", "SteadyClock"]
