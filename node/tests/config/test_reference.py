# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from grey.config import reference, rules, schema

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "federation-file.md"
SEED_KEYS = [
    "cert_rotation_interval",
    "allowed_clusters",
    "crdt_type",
    "handler",
    "promotion_timeout",
    "capabilities",
]


def test_the_committed_page_is_current() -> None:
    if PAGE.read_text() != reference.render():
        pytest.fail(
            "docs/reference/federation-file.md is older than the schema or the rules; in the root, run:\n"
            ".venv/bin/python -m grey.config.reference > docs/reference/federation-file.md",
            pytrace=False,
        )


@pytest.mark.parametrize("key", SEED_KEYS)
def test_every_key_has_one_row(key: str) -> None:
    assert reference.render().count(f"\n| `{key}` |") == 1


def test_every_rule_is_on_the_page() -> None:
    page = reference.render()
    for rule in rules.RULES:
        assert " ".join((inspect.getdoc(rule) or "").split()).replace("``", "`") in page
    assert "``" not in page


def test_the_schema_ends_like_a_text_file() -> None:
    assert schema.text("schema.json").endswith("}\n")
