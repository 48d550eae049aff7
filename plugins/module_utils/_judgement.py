# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the values that hosts measured mean: which are well, which are not, and what to do. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible_collections.grey.distributed.plugins.module_utils._clock import Bounds
from ansible_collections.grey.distributed.plugins.module_utils._findings import Finding, State, from_sentence

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LEAST_OPEN_FILES = 4096
_LEAST_FILES_SHARE = 0.05
_KEEP = "start a time service: systemctl enable --now chrony (or systemd-timesyncd)"
_DEPLOY = "run deploy.yml, which issues a new one"


@dataclass(frozen=True)
class Limits:
    """What is wanted of the hosts. ``quota`` is how far an engine may grow, as ``2Gi``.

    ``store_heartbeat_ms`` is that of the federation store when it is set; 0: as it began.
    """

    ansible: str
    etcd: str
    max_clock_offset: float
    sync_ms: float
    worst_sync_ms: float
    quota: str
    bandwidth_mbit: float
    link_port: int
    store_heartbeat_ms: int


@dataclass(frozen=True)
class View:
    """What was measured. By host: ``placed`` what it is, ``preflights`` and ``probes`` what the two modules
    answered (or how they failed), ``links`` what one host of each site measured to those of others.
    """

    controller: Mapping[str, str]
    placed: Mapping[str, Mapping[str, Any]]
    preflights: Mapping[str, Mapping[str, Any]]
    probes: Mapping[str, Mapping[str, Any]]
    links: Mapping[str, Mapping[str, Any]]
    limits: Limits

    def site(self, host: str) -> str:
        """Return the cluster of a host; a witness is a site of its own."""
        return str(self.placed[host]["cluster"] or host)

    def measured(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Return the hosts that answered, with what they measured."""
        for host, probe in self.probes.items():
            if "deployed" in probe:
                yield host, probe


def judge(view: View) -> list[Finding]:
    """Return all findings, section by section."""
    return [
        *_hosts(view),
        *_versions(view),
        *_hardware(view),
        *_disks(view),
        *_clocks(view),
        *_ports(view),
        *_links(view),
        *_certificates(view),
    ]


def _hosts(view: View) -> Iterator[Finding]:
    for host, preflight in view.preflights.items():
        probe = view.probes.get(host, {})
        if preflight.get("unreachable") or probe.get("unreachable"):
            said = str(preflight.get("msg") or probe.get("msg") or "no answer")
            step = "see that it runs, then run again"
            yield Finding("hosts", "fault", host, "connection", said, "an answer", step)
            continue
        broken = preflight if "faults" not in preflight else probe if "deployed" not in probe else None
        if broken is not None:
            yield Finding("hosts", "fault", host, "measuring", str(broken.get("msg", "no values")), "values")
            continue
        said = "deployed" if probe.get("deployed") else "not deployed yet"
        yield Finding("hosts", "ok", host, "connection", f"answers, {said}")
        for sentence in preflight.get("faults", ()):
            yield from_sentence("hosts", host, str(sentence).removeprefix(f"{host}: "))


def _versions(view: View) -> Iterator[Finding]:
    found = view.controller["ansible"]
    wanted = f"{view.limits.ansible} or newer"
    if numbers(found) < numbers(view.limits.ansible):
        yield Finding("versions", "fault", "controller", "ansible-core", found, wanted, "install a newer one")
    else:
        yield Finding("versions", "ok", "controller", "ansible-core", found, wanted)
    for host, probe in view.measured():
        system = probe["system"]
        yield Finding("versions", "ok", host, "system", f"{system['os']}, {system['libc']}")
        yield Finding("versions", "ok", host, "Python", system["python"])
        yield from _etcd_version(view, host, probe)
    for what, kinds in (("release", _releases(view)), ("architecture", _architectures(view))):
        yield from _alike(view, what, kinds)


def _etcd_version(view: View, host: str, probe: Mapping[str, Any]) -> Iterator[Finding]:
    if not (view.placed[host]["member"] or view.placed[host]["engine"] == "etcd"):
        return
    found, wanted = probe["versions"].get("etcd"), f"{view.limits.etcd} or newer"
    if found is None and not probe["deployed"]:
        yield Finding("versions", "ok", host, "etcd", "not there yet, deploy.yml sees to it")
    elif found is None:
        yield Finding("versions", "fault", host, "etcd", "none that runs", wanted, "run deploy.yml")
    elif numbers(found) < numbers(view.limits.etcd):
        yield Finding("versions", "fault", host, "etcd", found, wanted, "install a newer one")
    else:
        yield Finding("versions", "ok", host, "etcd", found, wanted)


def _releases(view: View) -> dict[str, str]:
    return {
        host: str(view.preflights[host].get("release") or probe["versions"].get("greyd"))
        for host, probe in view.measured()
        if view.preflights[host].get("release") or probe["versions"].get("greyd")
    }


def _architectures(view: View) -> dict[str, str]:
    return {host: probe["system"]["architecture"] for host, probe in view.measured()}


def _alike(view: View, what: str, kinds: Mapping[str, str]) -> Iterator[Finding]:
    """Note the clusters whose hosts differ."""
    clusters: dict[str, dict[str, list[str]]] = {}
    for host, kind in kinds.items():
        clusters.setdefault(view.site(host), {}).setdefault(kind, []).append(host)
    for cluster, by_kind in clusters.items():
        if len(by_kind) == 1:
            [only] = by_kind
            yield Finding("versions", "ok", cluster, what, only)
            continue
        said = "; ".join(f"{kind} on {', '.join(hosts)}" for kind, hosts in by_kind.items())
        step = "run upgrade.yml" if what == "release" else "it works; snapshots move between them too"
        yield Finding("versions", "warning", cluster, what, said, "one for all its hosts", step)


def _hardware(view: View) -> Iterator[Finding]:
    for host, probe in view.measured():
        machine = probe["machine"]
        yield Finding("hardware", "ok", host, "memory", f"{machine['memory_mib']} MiB")
        if machine["cores"] < 2 and view.placed[host]["engine"] == "etcd":
            step = "give it a second one: an election takes longer while greyd is busy"
            yield Finding("hardware", "warning", host, "cores", "1", "2 beside an engine", step)
        else:
            yield Finding("hardware", "ok", host, "cores", str(machine["cores"]))
        files = machine["open_files"]
        if files < LEAST_OPEN_FILES:
            step = "raise the hard limit (nofile) of this user"
            yield Finding("hardware", "warning", host, "open files", str(files), f"{LEAST_OPEN_FILES}", step)


def _disks(view: View) -> Iterator[Finding]:
    for host, probe in view.measured():
        quota = mebibytes(view.limits.quota) if view.placed[host]["engine"] == "etcd" else 0
        for disk in probe["disks"]:
            path = disk["path"]
            said = f"{disk['free_mib']} of {disk['total_mib']} MiB free"
            if disk["free_mib"] < quota:
                step = "enlarge the disk, or lower grey_engine_quota"
                wanted = f"{quota} MiB, the engine's quota"
                yield Finding("disks", "warning", host, f"room at {path}", said, wanted, step)
            else:
                yield Finding("disks", "ok", host, f"room at {path}", said)
            if disk["files"] and disk["files_free"] < disk["files"] * _LEAST_FILES_SHARE:
                said = f"{disk['files_free']} of {disk['files']} free"
                step = "look for what makes so many small files there"
                yield Finding("disks", "warning", host, f"file numbers at {path}", said, "5 %", step)
            yield _sync(view, host, disk)


def _sync(view: View, host: str, disk: Mapping[str, Any]) -> Finding:
    what = f"sync at {disk['path']}"
    if disk["sync_ms"] is None:
        return Finding("disks", "warning", host, what, disk["problem"])
    said = f"{disk['sync_ms']:.1f} ms, at worst {disk['worst_sync_ms']:.0f} ms"
    wanted = f"{view.limits.sync_ms:g} ms"
    step = "take a faster disk (SSD), or one that others use less: etcd syncs each write"
    if disk["sync_ms"] > view.limits.worst_sync_ms:
        return Finding("disks", "fault", host, what, said, wanted, step)
    if disk["sync_ms"] > view.limits.sync_ms:
        return Finding("disks", "warning", host, what, said, wanted, step)
    return Finding("disks", "ok", host, what, said, wanted)


def _clocks(view: View) -> Iterator[Finding]:
    allowed = view.limits.max_clock_offset
    wanted = f"at most {allowed:g} s"
    for host, probe in view.measured():
        clock = probe["clock"]
        keeper = (clock.get("service") or {}).get("unit", "a time service")
        if clock["synchronised"]:
            said = f"{keeper} keeps it, within {clock['most_error_ms']:.0f} ms"
            yield Finding("clocks", "ok", host, "synchronised", said)
        else:
            said = "nothing keeps it" if clock["synchronised"] is False else "the kernel does not say"
            yield Finding("clocks", "warning", host, "synchronised", said, "a time service", _KEEP)
        offset = clock.get("offset")
        if offset is None:
            step = "run again; a clock that is set while it is asked says nothing"
            yield Finding("clocks", "warning", host, "to the controller", "not measured", wanted, step)
            continue
        found = Bounds(**offset)
        if found.beyond(allowed):
            yield Finding("clocks", "fault", host, "to the controller", str(found), wanted, _KEEP)
        elif max(abs(found.least), abs(found.most)) > allowed and not clock["synchronised"]:
            yield Finding("clocks", "warning", host, "to the controller", str(found), wanted, _KEEP)
        else:
            yield Finding("clocks", "ok", host, "to the controller", str(found), wanted)
    for host, link in _measured_links(view):
        if link["offset_ms"] is None:
            continue
        said = f"{link['offset_ms']:+.1f} ms (within {link['offset_error_ms']:.1f} ms)"
        off = abs(link["offset_ms"]) - link["offset_error_ms"] > allowed * 1000
        what = f"{link['host']} to {host}"
        yield Finding("clocks", "fault" if off else "ok", host, what, said, wanted, _KEEP if off else "")


def _ports(view: View) -> Iterator[Finding]:
    silent: dict[tuple[str, int, str, str], list[str]] = {}
    for host, probe in view.measured():
        quiet = [port for port, open_ in probe["listens"].items() if not open_]
        if not probe["deployed"]:
            yield Finding("ports", "ok", host, "own", "not deployed yet; what holds them is said above")
        elif quiet:
            step = "look at journalctl -u 'grey*' there, or run deploy.yml"
            said = f"nobody listens on {', '.join(quiet)}"
            yield Finding("ports", "fault", host, "own", said, ", ".join(probe["listens"]), step)
        else:
            yield Finding("ports", "ok", host, "own", f"{', '.join(probe['listens'])} answer")
        lost = probe["unreached"]
        for each in lost:
            key = (each["host"], each["port"], each["purpose"], each["problem"])
            silent.setdefault(key, []).append(host)
        if not lost:
            said = f"all {probe['reached']} that it needs answer" if probe["reached"] else "it needs none"
            yield Finding("ports", "ok", host, "of others", said)
    for (target, port, purpose, problem), sources in silent.items():
        down = bool(view.preflights.get(target, {}).get("unreachable"))
        step = f"{target} is down" if down else f"open it in the firewalls between them and {target}"
        said = f"from {', '.join(sources)}: {problem}"
        state: State = "warning" if down else "fault"
        yield Finding("ports", state, target, f"{port} ({purpose})", said, "an answer", step)


def _measured_links(view: View) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for host, answer in view.links.items():
        for link in answer.get("links", ()):
            yield host, link


def _links(view: View) -> Iterator[Finding]:
    for host, link in _measured_links(view):
        to = link["host"]
        between = f"{view.site(host)} - {view.site(to)}"
        if link["round_trip_ms"] is None:
            said = f"nothing comes back from {to} to {host}"
            yield Finding("links", "fault", between, "round trip", said, "an answer", "look at the network")
            continue
        yield _round_trip(view, between, host, link)
        if link["by"] == "connect":
            port = view.limits.link_port
            said = f"not measured: port {port} of {to}, from {host}: {link['problem']}"
            step = f"open port {port} between them for a while, or name another one: host_link_port"
            yield Finding("links", "warning", between, "bandwidth", said, "", step)
        elif link["to_mbit"] is not None:
            least, wanted = min(link["to_mbit"], link["from_mbit"]), f"{view.limits.bandwidth_mbit:g} Mbit/s"
            said = f"{link['to_mbit']:.0f} Mbit/s there, {link['from_mbit']:.0f} Mbit/s back"
            slow = least < view.limits.bandwidth_mbit
            step = "replicas may fall behind, and full copies take long" if slow else ""
            yield Finding("links", "warning" if slow else "ok", between, "bandwidth", said, wanted, step)
    if view.links and not any(True for _each in _measured_links(view)):
        yield Finding("links", "ok", "all", "round trip", "there is one site only in this run")


def _round_trip(view: View, between: str, host: str, link: Mapping[str, Any]) -> Finding:
    """Compare a round trip with the federation store's heartbeat, between hosts of its members."""
    trip = link["round_trip_ms"]
    said = f"{trip:.1f} ms"
    told = view.probes[host].get("heartbeats", {}).get("federation-store")
    beat = view.limits.store_heartbeat_ms or told
    if not beat or not (view.placed[host]["member"] and view.placed[link["host"]]["member"]):
        return Finding("links", "ok", between, "round trip", said)
    wanted = f"{beat} ms, the federation store's heartbeat"
    if trip <= beat:
        return Finding("links", "ok", between, "round trip", said, wanted)
    step = "set grey_federation_store_heartbeat_ms to about the longest round trip, and deploy"
    return Finding("links", "warning", between, "round trip", said, wanted, step)


def _certificates(view: View) -> Iterator[Finding]:
    for host, probe in view.measured():
        for each in probe["certificates"]:
            yield from _certificate(host, each, deployed=probe["deployed"])


def _certificate(host: str, found: Mapping[str, Any], *, deployed: bool) -> Iterator[Finding]:
    name, reasons = found["name"], found["reasons"]
    if not found["there"]:
        if deployed:
            yield Finding("certificates", "fault", host, name, "missing", "a certificate", _DEPLOY)
        else:
            yield Finding("certificates", "ok", host, name, "not there yet, deploy.yml makes it")
        return
    if reasons is None:
        step = "run deploy.yml: the node's release brings it"
        yield Finding(
            "certificates", "warning", host, name, "no library there to read it", "cryptography", step
        )
    elif not reasons:
        yield Finding("certificates", "ok", host, name, f"good until {found['until']} UTC")
    else:
        late = all(reason.startswith("expires at") for reason in reasons)
        state: State = "warning" if late else "fault"
        yield Finding("certificates", state, host, name, "; ".join(reasons), "a good certificate", _DEPLOY)
    served = {"file": "the certificate in the file", "other": "another certificate than that in the file"}
    for each in found["served"]:
        what = f"{name}, served at {each['port']}"
        said = served.get(each["state"], f"{each['state']}: {each['problem']}")
        if each["state"] == "file":
            yield Finding("certificates", "ok", host, what, said)
        elif each["state"] == "other":
            yield Finding("certificates", "warning", host, what, said, "that in the file", "run deploy.yml")
        elif each["state"] == "refused":
            yield Finding("certificates", "fault", host, what, said, "one of the authority", _DEPLOY)
        elif deployed:
            yield Finding("certificates", "fault", host, what, said, "an answer", "see that it runs")


def numbers(version: str) -> tuple[int, ...]:
    """Return a version's numbers, to compare by."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def mebibytes(size: str) -> int:
    """Return a size as the node's file writes it (``2Gi``, ``500M``) in MiB, rounded down; 0 for none."""
    found = re.fullmatch(r"(\d+)([kKMGT]?)(i?)", size)
    if found is None:
        return 0
    power = " KMGT".index(found[2].upper() or " ")
    bytes_: int = int(found[1]) * (1024 if found[3] else 1000) ** power
    return bytes_ // 2**20
