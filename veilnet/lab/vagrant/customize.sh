#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The last step of a box, called by mmdebstrap with the new root as argument: headers for bcc in one tree, VeilNet's
# Python packages, ssh for root by the box's own key, networkd on the first NIC, no service that a lab does not need.
set -euo pipefail
root=$1
: "${BOX_KERNEL:?}" "${BOX_LOCK:?}" "${BOX_KEY:?}" "${BOX_PIP:?}" "${BOX_HEADERS:?}"

# Only `include` and `arch/x86/include`: our programs use UAPI. The packages would bring a C compiler along.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
arch=$(APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-cache depends "$BOX_HEADERS" | sed -n 's/.*Depends: \(linux-headers-.*\)/\1/p' | head -1)
common=$(APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-cache depends "$arch" | sed -n 's/.*Depends: \(linux-headers-.*-common\)/\1/p')
(cd "$work" && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download -q -o APT::Sandbox::User=root "$arch" "$common")
mkdir -p "$root/opt/veilnet/headers/arch/x86"
for deb in "$work"/*.deb; do
    dpkg-deb -x "$deb" "$work/tree"
done
for name in "$common" "$arch"; do
    cp -a "$work/tree/usr/src/$name/include" "$root/opt/veilnet/headers/"
    cp -a "$work/tree/usr/src/$name/arch/x86/include" "$root/opt/veilnet/headers/arch/x86/"
done

"$BOX_PIP" install -q --disable-pip-version-check --require-hashes --no-deps --target "$root/opt/veilnet/site" -r "$BOX_LOCK"
cat >"$root/usr/local/bin/veilnet" <<'TEXT'
#!/bin/sh
export PYTHONPATH=/opt/veilnet/tree:/opt/veilnet/site BCC_KERNEL_SOURCE=/opt/veilnet/headers
exec /usr/bin/python3 -P -c 'from veilnet.cli.main import main; main()' "$@"
TEXT
chmod 0755 "$root/usr/local/bin/veilnet"

install -d -m 0700 "$root/root/.ssh"
install -m 0600 "$BOX_KEY.pub" "$root/root/.ssh/authorized_keys"
cat >"$root/etc/ssh/sshd_config.d/lab.conf" <<'TEXT'
PasswordAuthentication no
PermitRootLogin prohibit-password
UseDNS no
UsePAM no
TEXT

# The machine id is shared by all machines of a box, so that leases must go by MAC.
cat >"$root/etc/systemd/network/10-management.network" <<'TEXT'
[Match]
Driver=virtio_net
[Network]
DHCP=ipv4
LinkLocalAddressing=no
[DHCPv4]
ClientIdentifier=mac
TEXT
echo veilnet >"$root/etc/hostname"
echo '/dev/vda / ext4 errors=remount-ro 0 1' >"$root/etc/fstab"
echo 'bpf /sys/fs/bpf bpf defaults 0 0' >>"$root/etc/fstab"
printf 'net.core.bpf_jit_enable=1\nkernel.panic=10\n' >"$root/etc/sysctl.d/lab.conf"
systemctl --root "$root" -q enable systemd-networkd ssh
systemctl --root "$root" -q mask systemd-networkd-wait-online systemd-timesyncd systemd-logind systemd-resolved \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap fstrim.timer \
    systemd-tmpfiles-clean.timer getty@tty1 systemd-pstore systemd-rfkill console-setup keyboard-setup
