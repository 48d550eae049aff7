# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/reference/metrics.md against what a node exports: names, labels and types."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from grey.serve.metrics import Figures, NodeMetrics
from grey.store.interface import StoreStatus

if TYPE_CHECKING:
    from support.serving import Serving

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "metrics.md").read_text()
ROW = re.compile(r"^\| `(?P<name>grey_\w+)` \| (?P<labels>[^|]*)\| (?P<type>\w+) \|", re.MULTILINE)


def exported() -> dict[str, tuple[frozenset[str], str]]:
    """Return labels and type of every metric of a node of which everything is known."""
    metrics = NodeMetrics("aws-east")
    metrics.observe("get", "ok", 0.01)
    figures = Figures(
        role="replica",
        epoch=1,
        sequence=1,
        lag_seconds=0.1,
        lag_records=3,
        leader=True,
        engine_up=True,
        store=StoreStatus(5, 1, 4096, 4096, 8192, ("NOSPACE",), leader=True),
        role_deadline_seconds=0.0,
        federation_store_up=True,
        certificate_expiry_seconds=1.0,
        needs_full_copy={"gcp-west": False},
    )
    found = {}
    for family in text_string_to_metric_families(metrics.text(figures).decode()):
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = family.name + ("_total" if family.type == "counter" else "")
        found[name] = (frozenset(labels), family.type)
        assert family.documentation
    return found


def test_the_page_has_every_metric_and_no_other() -> None:
    rows = {
        row["name"]: (frozenset(re.findall(r"`(\w+)`", row["labels"])), row["type"])
        for row in ROW.finditer(PAGE)
    }
    assert rows == exported()
    assert len(rows) == PAGE.count("\n| `grey_")


async def test_the_page_names_the_operations(node: Serving) -> None:
    said = set(re.findall(r"`(\w+)`", PAGE.split("\n`operation` is ")[1].split("`result` is")[0]))
    keys = {operation for operation, _ in node.api._on_keys.values()}
    others = {operation for _, operation, _ in node.api._others.values()}
    assert keys | others < said
    for path in ("/v1/kv/a", "/health", "/v1/nothing"):
        await node.ask("GET", path)
    assert (
        {operation for operation, _ in node.metrics._operations._results} == {"get", "health", "other"} < said
    )
