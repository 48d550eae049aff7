# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grey.config import schema, units
from grey.config.errors import BadValue

SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
BYTES = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("100ms", 0.1), ("30s", 30.0), ("24h", 86400.0), ("1m", 60.0), ("1.5s", 1.5), ("7d", 604800.0)],
)
def test_durations_of_the_document(text: str, seconds: float) -> None:
    assert units.duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("4Gi", 4 << 30), ("2G", 2 * 10**9), ("50Gi", 50 << 30), ("1k", 1000)]
)
def test_sizes_of_the_document(text: str, size: int) -> None:
    assert units.size(text) == size


@settings(deadline=None)
@given(st.integers(0, 10**9 - 1), st.sampled_from(list(SECONDS)))
def test_every_whole_duration(number: int, unit: str) -> None:
    assert units.duration(f"{number}{unit}") == pytest.approx(number * SECONDS[unit], rel=1e-12)


@settings(deadline=None)
@given(st.integers(0, 10**9 - 1), st.sampled_from(list(BYTES)))
def test_every_size(number: int, unit: str) -> None:
    assert units.size(f"{number}{unit}") == number * BYTES[unit]


@settings(deadline=None)
@given(st.text(max_size=12) | st.from_regex(r"[0-9.]{1,4} ?[a-zA-Z]{0,3}\n?"))
def test_other_texts_are_refused(text: str) -> None:
    for read, pattern in ((units.duration, units.DURATION), (units.size, units.SIZE)):
        if re.fullmatch(pattern.strip("^$"), text):
            assert read(text) >= 0
        else:
            with pytest.raises(BadValue):
                read(text)


@pytest.mark.parametrize(
    "text", ["30", "30 s", "30sec", "-1s", "1e3s", "1h30m", "", "s", "30S", "٣s", "1s\n", "1234567890s"]
)
def test_wrong_duration_names_the_wanted_forms(text: str) -> None:
    with pytest.raises(BadValue) as caught:
        units.duration(text)
    assert caught.value.message == f'expected a duration, found "{text}"'
    assert caught.value.hint == "write a number and ms, s, m, h or d, for example 100ms, 30s or 24h"


@pytest.mark.parametrize("text", ["4", "4GB", "4gi", "4K", "1.5Gi", "4 Gi", "Gi", "-4Gi"])
def test_wrong_size_names_the_wanted_forms(text: str) -> None:
    with pytest.raises(BadValue) as caught:
        units.size(text)
    assert str(caught.value) == (
        f'expected a size, found "{text}"; '
        "write a whole number and Ki, Mi, Gi, Ti (1024) or k, M, G, T (1000), for example 4Gi or 2G"
    )


def test_the_schema_has_the_same_pattern() -> None:
    assert schema.schema("schema.json")["$defs"]["duration"]["pattern"] == units.DURATION
