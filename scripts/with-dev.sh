#!/usr/bin/env bash
# with-dev.sh COMMAND [ARG...] runs a command against a system of its own: it
# starts `gatehouse dev` in a temporary folder, appends the API's address to the
# arguments, and ends the system, whatever came of the command, with its code.
# dev's environment is the caller's; API_LIMITS_FILE is handed on to control.
set -euo pipefail

patience=120 # seconds until all is ready

cd "$(dirname "${BASH_SOURCE[0]}")/.."
die() { echo "with-dev.sh: $*" >&2; exit 1; }

[[ $# -gt 0 ]] || die "say which command"
[[ -x bin/gatehouse ]] || die "there is no bin/gatehouse; run: make build"
envoy=$(scripts/envoy.sh)
tmp=$(mktemp -d)
dev=

finish() {
  if [[ -n $dev ]]; then
    kill -TERM "$dev" 2>/dev/null || true
    wait "$dev" 2>/dev/null || true
  fi
  rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 130' INT TERM

# api prints the API's address from the ready file, which dev writes whole.
api() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["api"])' "$tmp/ready.json"; }

ENVOY=$envoy bin/gatehouse dev --ready-file "$tmp/ready.json" >"$tmp/log" 2>&1 </dev/null &
dev=$!
for ((i = 0; i < patience * 5; i++)); do
  if [[ -s $tmp/ready.json ]]; then break; fi
  kill -0 "$dev" 2>/dev/null || { cat "$tmp/log" >&2; dev=; die "dev ended before it was ready"; }
  sleep 0.2
done
[[ -s $tmp/ready.json ]] || { cat "$tmp/log" >&2; die "dev was not ready within ${patience}s"; }
"$@" "$(api)"
