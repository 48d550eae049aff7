# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grey.record.position import ORIGIN, Position

positions = st.builds(Position, st.integers(0, 2**63), st.integers(0, 2**63))


@given(positions)
def test_text_and_back(position: Position) -> None:
    assert Position.parse(str(position)) == position


@given(positions, positions)
def test_order_is_by_epoch_then_sequence(one: Position, other: Position) -> None:
    assert (one < other) == ((one.epoch, one.sequence) < (other.epoch, other.sequence))
    assert one >= ORIGIN


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.",
        ".1",
        "1.2.3",
        "-1.2",
        "+1.2",
        "01.2",
        "1.02",
        "1 .2",
        "1.2\n",
        "1.٣",
        "1e3.2",
        "9" * 30 + ".1",
    ],
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"EPOCH\.SEQUENCE, for example 1\.42, not"):
        Position.parse(text)
