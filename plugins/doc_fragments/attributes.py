# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all modules of this collection promise."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes for the documentation of modules."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return the changed status without changing anything.
  diff_mode:
    support: full
    description: Returns what changed, or would change, in diff mode.
  idempotent:
    support: full
    description: A second run in a row outside check mode with the same arguments reports no change.
"""

    READ_ONLY = r"""
options: {}
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return the changed status without changing anything.
  diff_mode:
    support: N/A
    description: Never changes anything, so there is nothing to show in diff mode.
  idempotent:
    support: full
    description: A second run in a row outside check mode with the same arguments reports no change.
"""
