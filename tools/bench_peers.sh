#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The programs that `./run bench relay|tunnel` compares with: coturn and wg from Debian, the tunnels built from their own
# modules and crates where Go and Cargo are present, else Debian's packages. What can't be had is named and left out.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

say() { echo "bench: $*"; }

packages=(coturn wireguard-tools)
command -v go >/dev/null || packages+=(wireguard-go nebula)
missing=()
for name in "${packages[@]}"; do
    # shellcheck disable=SC2016 # the dollar is dpkg-query's
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
done
if [ ${#missing[@]} -gt 0 ]; then
    say "installing packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -q && apt-get install -q -y --no-install-recommends "${missing[@]}"; } ||
        say "not installed: ${missing[*]}; their figures will be missing"
fi
.venv/bin/python -m bench.peers.tools || say "a peer could not be built; its figures will be missing"
