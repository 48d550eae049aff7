# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node of a Grey federation: greyd, grey-ctl and the client library."""

__version__ = "0.2.0"
