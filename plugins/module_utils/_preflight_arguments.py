# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arguments of grey_preflight, whose documentation fills its own file."""

from __future__ import annotations

from typing import Any

ARGUMENTS: dict[str, dict[str, Any]] = {
    "host": {"type": "str", "required": True},
    "root": {"type": "str", "default": ""},
    "address": {"type": "str", "required": True},
    "ports": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "port": {"type": "int", "required": True},
            "purpose": {"type": "str", "required": True},
        },
    },
    "sockets": {"type": "list", "elements": "path", "default": []},
    "folders": {"type": "list", "elements": "path", "default": []},
    "free_bytes": {"type": "int", "default": 0},
    "binaries": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "path", "required": True},
            "arguments": {"type": "list", "elements": "str", "default": ["--version"]},
            "minimum": {"type": "str"},
        },
    },
    "install_dir": {"type": "path"},
    "release": {"type": "str"},
    "version": {"type": "str", "default": ""},
    "python": {"type": "path"},
    "wanted": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "path", "required": True},
            "minimum": {"type": "str", "required": True},
        },
    },
    "members": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "group": {"type": "str", "required": True},
            "marker_file": {"type": "path", "required": True},
            "wanted": {"type": "bool", "required": True},
            "bootstrap_file": {"type": "path"},
            "peers": {"type": "dict", "default": {}},
            "free_bytes": {"type": "int", "default": 0},
        },
    },
    "memory_mib": {"type": "int", "default": 0},
    "max_clock_offset": {"type": "float"},
    "clock": {"type": "str", "choices": ["refuse", "warn"], "default": "refuse"},
    "time_service": {"type": "bool", "default": False},
    "engine": {"type": "str"},
    "manager": {"type": "str", "choices": ["systemd", "supervisor"], "default": "supervisor"},
    "supervisor_file": {"type": "path"},
    "user": {"type": "str", "default": ""},
    "group": {"type": "str", "default": ""},
    "hint": {"type": "str", "default": "choose a shorter root folder"},
    "node_file": {"type": "path"},
    "address_hint": {
        "type": "str",
        "default": "set grey_address to that one, or tear the deployment down first",
    },
    "identity_file": {"type": "path"},
    "identity": {
        "type": "dict",
        "options": {
            "federation": {"type": "str", "required": True},
            "cluster": {"type": "str", "required": True},
            "node": {"type": "str", "required": True},
        },
    },
}
