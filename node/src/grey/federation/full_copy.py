# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which clusters the primary's history no longer serves (design, section 4: "marked for full copy").

The mark is the primary's own word in its newest report, which stays when the primary is gone: from where on
its history is kept. It is said before history goes, and counts until the other cluster stands at or after it,
which only a full copy can bring about. Until then that cluster is not to be promoted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from grey.federation.interface import MemberReport, RoleRecord
    from grey.federation.members import Observed


def needs_full_copy(report: MemberReport | None, primary: MemberReport | None) -> bool:
    """Say whether a cluster cannot go on from where it stands, by its newest report and the primary's."""
    if report is None or primary is None or primary.oldest is None or report.cluster == primary.cluster:
        return False
    return report.position < primary.oldest


def who_needs_full_copy(holder: RoleRecord | None, observed: Mapping[str, Observed]) -> dict[str, bool]:
    """Say it of every cluster that ever reported, except the one that holds the role."""
    primary = None if holder is None else observed.get(holder.cluster)
    if primary is None or primary.report is None:
        return {}
    return {
        name: needs_full_copy(seen.report, primary.report)
        for name, seen in observed.items()
        if seen.report is not None and name != primary.report.cluster
    }
