# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unit files on the disk: ours, and whatever else would override or hide them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.grey.distributed.plugins.module_utils import _files
from ansible_collections.grey.distributed.plugins.module_utils import _systemd_unit as unit_text
from ansible_collections.grey.distributed.plugins.module_utils._outcome import Change, GreyError

if TYPE_CHECKING:
    from collections.abc import Iterable

OVERRIDING = (
    Path("/etc/systemd/system.control"),
    Path("/run/systemd/system.control"),
    Path("/run/systemd/transient"),
    Path("/run/systemd/system"),
)
"""Where commands such as ``systemctl set-property`` and ``mask --runtime`` put what comes before a unit."""


def ours(instance: str) -> list[str]:
    """Return the units of a deployment that are on the disk."""
    found = [
        path.name
        for pattern in ("greyd.service", "grey-*.service")
        for path in sorted(unit_text.UNIT_DIR.glob(pattern))
    ]
    return [unit for unit in found if unit_text.instance_of(_read(unit)) == instance]


def require_own(unit: str, instance: str) -> None:
    """Refuse a unit of another deployment: names of units are a host's, whatever the root folder."""
    other = unit_text.instance_of(_read(unit))
    if other is not None and other != instance:
        raise GreyError(
            f"{unit_text.UNIT_DIR / unit}: wanted the unit of the deployment under {instance}, found that of "
            f"the one under {other}; a host runs one under systemd: tear that down, or set "
            "grey_program_manager=supervisor for this one"
        )


def overrides(unit: str, loaded: Iterable[str]) -> list[str]:
    """Return what comes before a unit file or adds to it, on the disk or ``loaded`` from it.

    What the distribution brings, and what the host's administrator set for all services, is left alone.
    """
    found = {str(folder / unit) for folder in OVERRIDING if _there(folder / unit)}
    for folder in (unit_text.UNIT_DIR, *OVERRIDING):
        found |= {str(path) for path in (folder / f"{unit}.d").glob("*.conf")}
    found |= {
        path
        for path in loaded
        if Path(path).parent.name != "service.d" and not path.startswith(("/usr/", "/lib/")) and _there(path)
    }
    return sorted(found)


def differs(file: _files.File) -> bool:
    """Whether a unit file is not there as it should be, or is a link, such as one that masks it."""
    path = Path(file.path)
    return path.is_symlink() or _read(path.name) != file.content


def write(file: _files.File, found: Iterable[str], *, check: bool) -> list[Change]:
    """Put a unit file in place and remove the overrides that were ``found``."""
    changes = remove(found, check=check)
    path = Path(file.path)
    if path.is_symlink():
        before = f"a link to {path.readlink()}"
        if not check:
            path.unlink()
            _files.ensure_file(file, check=False)
        return [*changes, Change(file.path, before, f"# mode {file.mode:04o}\n{file.content}")]
    change = _files.ensure_file(file, check=check)
    return [*changes, *([change] if change else [])]


def remove(paths: Iterable[str], *, check: bool) -> list[Change]:
    """Remove files, and the folders of drop-ins that are empty then."""
    changes = []
    for path in paths:
        change = _files.ensure_absent(path, check=check)
        if change is not None:
            changes.append(change)
    gone = {change.subject for change in changes}
    for folder in sorted({str(Path(path).parent) for path in gone if Path(path).parent.name.endswith(".d")}):
        change = _files.prune(folder, gone, check=check)
        if change is not None:
            changes.append(change)
    return changes


def enabled(unit: str) -> bool:
    """Whether a unit is started at boot. Asked of the disk: systemd keeps an older answer in memory."""
    link = unit_text.UNIT_DIR / "multi-user.target.wants" / unit
    return link.is_symlink() and link.readlink().name == unit


def traces(unit: str, loaded: Iterable[str]) -> list[str]:
    """Return all that a unit has on the disk, with the drop-ins ``loaded`` from it."""
    folder = unit_text.UNIT_DIR
    # Not one pattern for folder and link: a link to what is gone would not be found.
    wanting = sorted((*folder.glob("*.wants"), *folder.glob("*.requires")))
    files = [*(path / unit for path in wanting), folder / unit]
    return [*overrides(unit, loaded), *(str(path) for path in files if _there(path))]


def _there(path: str | Path) -> bool:
    return Path(path).exists() or Path(path).is_symlink()


def _read(unit: str) -> str:
    try:
        return (unit_text.UNIT_DIR / unit).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise _files.explain(error, unit_text.UNIT_DIR / unit) from error
