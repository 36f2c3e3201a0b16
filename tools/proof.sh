#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Check the symbolic models of the Anchor Protocol. usage: tools/proof.sh [MODEL.vp ...]   (default: docs/proof/*.vp)
#
# A model must show no attack; a model named control_* must show one in every query. A line "// sessions: N" in a model
# bounds its parallel sessions (Verifpal's default is 2). Verifpal is installed from its crate when it is not there.
set -euo pipefail
cd "$(dirname "$0")/.."
VERSION=1.6.7
CACHE=${VEILNET_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/veilnet-tools}/verifpal
LIMIT=${PROOF_TIMEOUT:-900} # seconds per model

verifpal_path() { # prints the path of the pinned version, building it if need be
	if [ ! -x "$CACHE/bin/verifpal" ] || ! "$CACHE/bin/verifpal" --version 2>/dev/null | grep -q "$VERSION"; then
		command -v cargo >/dev/null || { echo "proof: no verifpal $VERSION in $CACHE and no cargo to build it" >&2; return 1; }
		cargo install verifpal --version "$VERSION" --ignore-rust-version --locked --quiet --root "$CACHE" >&2
	fi
	echo "$CACHE/bin/verifpal"
}

check() { # check VERIFPAL MODEL: one line of result, the whole report only when it is not what the name promises
	local report rc=0 sessions
	sessions=$(sed -n 's|^// sessions: \([0-9]*\).*|\1|p' "$2")
	report=$(timeout "$LIMIT" "$1" verify "$2" --quiet --color never --fail-on-attack --sessions "${sessions:-2}" 2>&1) || rc=$?
	local held failed
	held=$(grep -cE '^ *PASS \+ [a-z]+\?' <<<"$report" || true)
	failed=$(grep -cE '^ *FAIL x [a-z]+\?' <<<"$report" || true)
	case "$(basename "$2")" in
	control_*) [ "$rc" -eq 2 ] && [ "$held" -eq 0 ] && [ "$failed" -gt 0 ] && { echo "ok   $2: attack found, as it must be ($failed queries)"; return; } ;;
	*) [ "$rc" -eq 0 ] && [ "$held" -gt 0 ] && [ "$failed" -eq 0 ] && { echo "ok   $2: $held queries hold at ${sessions:-2} sessions"; return; } ;;
	esac
	printf 'FAIL %s (exit %s)\n%s\n' "$2" "$rc" "$report"
	return 1
}

if [ "${1:-}" = --check ]; then
	check "$2" "$3"
	exit
fi
verifpal=$(verifpal_path)
[ $# -gt 0 ] || set -- docs/proof/*.vp
printf '%s\0' "$@" | xargs -0 -n 1 -P "$(nproc)" "$0" --check "$verifpal"
echo "proof: $# models as expected"
