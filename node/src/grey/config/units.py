# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Durations such as ``100ms`` and sizes such as ``4Gi``. A number without a unit is refused."""

from __future__ import annotations

import re
from decimal import Decimal

from grey.config.errors import BadValue, quoted

DURATION = r"^[0-9]{1,9}(\.[0-9]{1,3})?(ms|s|m|h|d)$"
SIZE = r"^[0-9]{1,9}(k|M|G|T|Ki|Mi|Gi|Ti)$"

_DURATION = re.compile(DURATION.removesuffix("$"))
_SIZE = re.compile(SIZE.removesuffix("$"))
_SECONDS = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_BYTES = {
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_LETTERS = re.compile(r"[A-Za-z]+$")


def duration(text: str) -> float:
    """Return the seconds of a duration: a number and ms, s, m, h or d. Raises BadValue."""
    if _DURATION.fullmatch(text) is None:
        raise BadValue(
            f"expected a duration, found {quoted(text)}",
            "write a number and ms, s, m, h or d, for example 100ms, 30s or 24h",
        )
    number, unit = _split(text)
    return float(Decimal(number) * _SECONDS[unit])


def size(text: str) -> int:
    """Return the bytes of a size: a whole number and k, M, G, T (powers of 1000) or Ki, Mi, Gi, Ti (of 1024).

    Raises BadValue.
    """
    if _SIZE.fullmatch(text) is None:
        raise BadValue(
            f"expected a size, found {quoted(text)}",
            "write a whole number and Ki, Mi, Gi, Ti (1024) or k, M, G, T (1000), for example 4Gi or 2G",
        )
    number, unit = _split(text)
    return int(number) * _BYTES[unit]


def _split(text: str) -> tuple[str, str]:
    unit = _LETTERS.search(text)
    assert unit is not None
    return text[: unit.start()], unit[0]
