#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Set-up on Debian 12: packages, virtual environment with the locked dependencies, bpffs. Idempotent; the second time it
# compares one hash and returns, without network.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

PACKAGES=(
    python3 python3-venv python3-bpfcc libbpf1 "linux-headers-$(dpkg --print-architecture)"
    iproute2 nftables iputils-ping iperf3 ethtool tcpdump coturn procps util-linux kmod ca-certificates
    gcc libc6-dev
    vagrant vagrant-libvirt graphviz
    qemu-system-x86 qemu-utils libvirt-daemon-system libvirt-clients dnsmasq-base iptables mmdebstrap rsync
    openssh-client e2fsprogs zstd
    postgresql
)
# Not `python3`: another one may stand first in PATH, and only the system's sees the bcc package.
PYTHON=/usr/bin/python3
VENV=.venv
STAMP=.cache/setup.stamp

say() { echo "setup: $*"; }

fail() {
    echo "setup: $*" >&2
    exit 1
}

inputs_hash() {
    cat tools/setup.sh requirements.lock pyproject.toml | sha256sum | cut -d' ' -f1
}

install_packages() {
    local missing=() name
    for name in "${PACKAGES[@]}"; do
        # shellcheck disable=SC2016 # the dollar is dpkg-query's
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -q -y --no-install-recommends "${missing[@]}"
    # the tests run servers of their own in namespaces; Debian starts one for the whole host
    [[ " ${missing[*]} " != *" coturn "* ]] || systemctl disable -q --now coturn 2>/dev/null || true
}

# A venv that sees the system's bcc; cryptography and the rest come from the lock, not from the system.
make_venv() {
    [ -x "$VENV/bin/python" ] && "$VENV/bin/python" -c 'import bcc' 2>/dev/null || {
        say "making $VENV from $PYTHON"
        "$PYTHON" -m venv --clear --system-site-packages "$VENV"
    }
    say "installing locked dependencies"
    "$VENV/bin/pip" install -q --disable-pip-version-check --require-hashes -r requirements.lock
    "$VENV/bin/pip" install -q --disable-pip-version-check --no-deps -e .
}

mount_bpffs() {
    mountpoint -q /sys/fs/bpf || {
        say "mounting bpffs on /sys/fs/bpf"
        mount -t bpf bpf /sys/fs/bpf
    }
}

[ "$(id -u)" = 0 ] || fail "needs root: sudo ./run setup"
command -v apt-get >/dev/null || fail "needs Debian 12 (apt-get not found)"
mount_bpffs
if [ "$(cat "$STAMP" 2>/dev/null)" = "$(inputs_hash)" ] && "$VENV/bin/python" -c 'import bcc' 2>/dev/null; then
    exit 0
fi
install_packages
make_venv
mkdir -p "$(dirname "$STAMP")"
inputs_hash >"$STAMP"
say "ready"
