#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Build liboqs (ML-KEM-768 and ML-DSA-65 only) for liboqs-python and print the directory for OQS_INSTALL_PATH.
#
#   OQS_INSTALL_PATH=$(tools/build_liboqs.sh) pytest tests/protocol/test_oqs.py
#
# No distribution package exists. The crate oqs-sys carries the source of liboqs 0.13.0; cargo fetches and checks it.
# liboqs-python 0.16 looks up OQS_SIG_supports_ctx_str, which 0.13 lacks, and stops at import: a library of that one
# function, named liboqs.so, links to the real one. Needs cargo, cmake, ninja and a C compiler; takes half a minute
# once, nothing after. First argument or VEILNET_CACHE: directory to build in (default ~/.cache/veilnet).
set -eu

CRATE_VERSION=0.11.0
CACHE=${1:-${VEILNET_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/veilnet}}
PREFIX=$CACHE/liboqs-$CRATE_VERSION

if [ -e "$PREFIX/lib/liboqs.so" ]; then
	echo "$PREFIX"
	exit 0
fi
for tool in cargo cmake ninja cc; do
	command -v "$tool" >/dev/null || { echo "build_liboqs: $tool is missing" >&2; exit 69; }
done

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
mkdir -p "$WORK/fetch/src" "$PREFIX/lib" "$PREFIX/include"
cat >"$WORK/fetch/Cargo.toml" <<-EOF
	[package]
	name = "fetch"
	version = "0.0.0"
	edition = "2021"
	[dependencies]
	oqs-sys = "=$CRATE_VERSION"
EOF
: >"$WORK/fetch/src/lib.rs"
(cd "$WORK/fetch" && cargo vendor --quiet "$WORK/vendor" >/dev/null)

cmake -GNinja -S "$WORK/vendor/oqs-sys/liboqs" -B "$WORK/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON \
	-DOQS_BUILD_ONLY_LIB=ON -DOQS_USE_OPENSSL=OFF "-DOQS_MINIMAL_BUILD=KEM_ml_kem_768;SIG_ml_dsa_65" >&2
ninja -C "$WORK/build" >&2

cp "$(readlink -f "$WORK/build/lib/liboqs.so")" "$PREFIX/lib/liboqs-real.so"
cat >"$WORK/shim.c" <<-EOF
	#include <string.h>
	/* liboqs 0.13: ML-DSA takes a context string, and it is the only signature built here */
	int OQS_SIG_supports_ctx_str(const char *alg_name)
	{
		return alg_name && !strncmp(alg_name, "ML-DSA-", 7);
	}
EOF
SONAME=$(objdump -p "$PREFIX/lib/liboqs-real.so" | sed -n 's/^ *SONAME *//p')
mv "$PREFIX/lib/liboqs-real.so" "$PREFIX/lib/$SONAME"
# written last: its presence means that the build is complete
cc -shared -fPIC -O2 -o "$WORK/liboqs.so" "$WORK/shim.c" -Wl,--no-as-needed "$PREFIX/lib/$SONAME" '-Wl,-rpath,$ORIGIN'
mv "$WORK/liboqs.so" "$PREFIX/lib/liboqs.so"
echo "$PREFIX"
