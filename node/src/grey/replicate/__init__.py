# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replication of records from the primary to the replicas: wire, source, follower, full copy."""
