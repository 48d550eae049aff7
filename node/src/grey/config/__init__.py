# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The federation file and the node's file: schema, rules, errors, and what they say once read."""
