# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The users' keys in a data store: layout, reads, group-committed and fenced writes, request ids."""
