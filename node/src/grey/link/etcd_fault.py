# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong with a question to one member, whichever way it is asked; loads no gRPC."""

from __future__ import annotations


class MemberFault(Exception):
    """A member did not do what was asked.

    ``carried_out``: False when it surely did not, else None. ``said`` are the member's own words, empty when
    it said nothing.
    """

    def __init__(self, message: str, *, carried_out: bool | None, said: str = "") -> None:
        super().__init__(message)
        self.carried_out = carried_out
        self.said = said
