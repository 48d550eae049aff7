# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gRPC library and etcd's messages; everything that needs them takes them from here.

gRPC reads its verbosity when it is loaded, and by default prints every failed handshake on standard error;
what matters of that is part of our own error messages.
"""

from __future__ import annotations

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc  # type: ignore[import-untyped]
from aetcd import rpc  # type: ignore[import-untyped]

__all__ = ["grpc", "rpc"]
