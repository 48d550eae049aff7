# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log: one line per event on standard error, ``level message key=value``."""

from __future__ import annotations

import logging
import sys


class OneLine(logging.Formatter):
    """Writes ``TIME level message key=value``; a traceback stands escaped in the same line."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03d"

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        text = record.getMessage()
        if record.exc_info:
            text += " traceback=" + repr(self.formatException(record.exc_info))
        text = " | ".join(text.splitlines())
        return f"{self.formatTime(record)} {record.levelname.lower()} {text} room={record.name}"


def start(level: int = logging.INFO) -> None:
    """Send all logging to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # aiohttp logs what clients do wrong as errors with a traceback; the door answers and counts those.
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
    logging.captureWarnings(capture=True)
