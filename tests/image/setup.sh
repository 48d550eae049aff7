#!/bin/sh
# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Makes a host of a fresh system: setup.sh ROOT. mmdebstrap calls it when the packages are installed.
set -eu
root=$1

# An administrator who logs in with a key and becomes root without a password, as on the images of the clouds. There is no key
# in the image: whoever starts a host puts one below /etc/ssh/authorized_keys.
chroot "$root" useradd --create-home --shell /bin/bash admin
install -d -m 0755 "$root/etc/ssh/authorized_keys"
printf 'admin ALL=(ALL) NOPASSWD: ALL\n' >"$root/etc/sudoers.d/admin"
chmod 0440 "$root/etc/sudoers.d/admin"

# Every host makes its own host key when it starts for the first time; one kind of key, because an RSA key takes a second.
rm -f "$root"/etc/ssh/ssh_host_*
install -d "$root/etc/systemd/system/ssh.service.d" "$root/etc/ssh/sshd_config.d"
cat >"$root/etc/ssh/sshd_config.d/host.conf" <<'END'
HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile /etc/ssh/authorized_keys/%u
PasswordAuthentication no
PermitRootLogin no
MaxStartups 100
MaxSessions 100
UseDNS no
END
cat >"$root/etc/systemd/system/ssh.service.d/host-key.conf" <<'END'
[Service]
ExecStartPre=
ExecStartPre=/bin/sh -c 'test -s /etc/ssh/ssh_host_ed25519_key || ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key'
ExecStartPre=/usr/sbin/sshd -t
END

# Empty, not absent: each host then makes its own, and systemd does not take the first start for an installation.
: >"$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id"

# The journal outlives a restart of the host, because tests kill hosts and ask afterwards what happened.
install -d "$root/etc/systemd/journald.conf.d" "$root/var/log/journal"
cat >"$root/etc/systemd/journald.conf.d/host.conf" <<'END'
[Journal]
Storage=persistent
SystemMaxUse=64M
RateLimitIntervalSec=0
END

# A container may not set the machine's clock. chronyd runs all the same and calls the clock good, so that "is the clock
# synchronised" can be asked and answered as on a real host.
install -d "$root/etc/systemd/system/chrony.service.d" "$root/etc/chrony/conf.d"
cat >"$root/etc/systemd/system/chrony.service.d/container.conf" <<'END'
[Unit]
ConditionCapability=
[Service]
ExecStart=
ExecStart=!/usr/sbin/chronyd -x -F 0
END
rm -f "$root"/etc/chrony/sources.d/*
sed -i '/^pool /d; /^sourcedir /d' "$root/etc/chrony/chrony.conf"
printf 'local stratum 8\n' >"$root/etc/chrony/conf.d/fleet.conf"

# Docker gives hosts of internal networks a default route too, to a bridge that drops what leaves. Without it a host that asks
# for the internet hears at once that there is no way, and does not reach this machine's other networks. A rule, because Docker
# sets the route again whenever a network is connected or disconnected. Docker's own name server tries for 20 s to ask outside;
# where nobody listens, the answer comes at once.
cat >"$root/etc/systemd/system/offline.service" <<'END'
[Unit]
Description=No way out of the fleet
DefaultDependencies=no
Before=network-pre.target ssh.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=-/sbin/ip route del default
ExecStart=/sbin/ip rule add priority 100 table main suppress_prefixlength 0
ExecStart=/sbin/ip rule add priority 101 unreachable
ExecStart=/bin/sh -c 'echo "nameserver 127.0.0.1" >/etc/resolv.conf'
[Install]
WantedBy=sysinit.target
END

# What a container does not need, or what watches files: the kernel allows few watchers per user (128 by default), and all hosts
# of a fleet share them. etcd.service is the default member that Debian's package starts.
for unit in \
    etcd.service ssh.socket systemd-logind.service systemd-udevd.service systemd-udevd-control.socket \
    systemd-udevd-kernel.socket systemd-udev-trigger.service systemd-udev-settle.service \
    getty.target console-getty.service getty-static.service systemd-firstboot.service \
    systemd-ask-password-console.path systemd-ask-password-wall.path \
    systemd-modules-load.service systemd-sysctl.service systemd-random-seed.service systemd-remount-fs.service \
    systemd-timesyncd.service systemd-update-utmp.service systemd-update-utmp-runlevel.service \
    systemd-pstore.service systemd-binfmt.service \
    dev-hugepages.mount dev-mqueue.mount sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    motd-news.timer man-db.timer logrotate.timer; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
chroot "$root" systemctl enable --quiet ssh.service chrony.service offline.service
chroot "$root" systemctl set-default --quiet multi-user.target

# Docker writes these files for each container; what the building machine had in them stays here.
rm -f "$root/etc/resolv.conf" "$root/etc/hostname"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/log/*.log "$root"/var/log/apt
