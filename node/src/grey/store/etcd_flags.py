# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of an etcd beside greyd: what the members of both groups have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grey.store import etcd_bootstrap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from grey.config.etcd_member import EtcdMember
    from grey.store.etcd_bootstrap import Bootstrap

ELECTION_HEARTBEATS = 10
"""A leader that was not heard of for so many heartbeats is replaced: etcd's own advice."""


def command_line(
    member: EtcdMember,
    *,
    client: str,
    peer_name: str,
    bootstrap: Bootstrap | None,
    more: Mapping[str, object],
) -> list[str]:
    """Return the command to become.

    ``client`` is the URL where it answers greyd, ``peer_name`` the DNS name in the certificates of all
    members. ``bootstrap`` is None for a member that has data.
    """
    peer = f"https://{member.peer}"
    heartbeat = etcd_bootstrap.heartbeat_milliseconds(member)
    settings: dict[str, object] = {
        "name": member.name,
        "data-dir": member.data_dir,
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        **({} if bootstrap is None else _beginning(bootstrap)),
        "peer-cert-file": member.tls.cert_file,
        "peer-key-file": member.tls.key_file,
        "peer-trusted-ca-file": member.tls.ca_file,
        "peer-client-cert-auth": "true",
        "peer-cert-allowed-hostname": peer_name,
        "heartbeat-interval": heartbeat,
        "election-timeout": heartbeat * ELECTION_HEARTBEATS,
        "pre-vote": "true",  # a member that was frozen does not depose the leader when it is back
        "strict-reconfig-check": "true",
        "logger": "zap",
        "log-outputs": "stderr",
        "log-level": "warn",
        **more,
    }
    return [member.etcd, *(f"--{name}={value}" for name, value in settings.items())]


def client_tls(member: EtcdMember) -> dict[str, object]:
    """Return the settings of mutual TLS towards greyd."""
    return {
        "cert-file": member.tls.cert_file,
        "key-file": member.tls.key_file,
        "trusted-ca-file": member.tls.ca_file,
        "client-cert-auth": "true",
    }


def _beginning(bootstrap: Bootstrap) -> dict[str, object]:
    return {
        "initial-cluster": ",".join(f"{name}=https://{peer}" for name, peer in bootstrap.members.items()),
        "initial-cluster-token": bootstrap.token,
        "initial-cluster-state": bootstrap.state,
    }
