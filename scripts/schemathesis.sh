#!/usr/bin/env bash
# schemathesis.sh [API_URL] holds a control service against the document that it
# serves: requests that the document allows, and such that it does not, first as
# operator of org1, then as admin. It changes and deletes what it finds, and needs
# rate limits far above the usual: without an address it starts a system of its
# own. Ends with 1 on any answer that the document does not have.
#
# What is asked stands in schemathesis.toml, what is left out in
# schemathesis_hooks.py; SEED and EXAMPLES ask for others and more. The packages
# are pinned by schemathesis.txt, in a virtual environment under .tools.
set -euo pipefail

readonly patience=540          # seconds that one run may take; a token has 600
readonly operator_examples=10  # requests of each operation and phase
readonly admin_examples=${EXAMPLES:-100}
readonly seed=${SEED:-20260101}
readonly operator_least=10     # operations that must have succeeded
readonly admin_least=52         # of 64; some need what a run may not have left

cd "$(dirname "${BASH_SOURCE[0]}")/.."
die() { echo "schemathesis.sh: $*" >&2; exit 1; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# limits_file prints a file of limits that no run reaches.
limits_file() {
  local name
  for name in admin operator developer observer anonymous probe sessions failed_logins budget_requests breaker_resets; do echo "$name: 1000000"; done
}

# fetch prints the folder of the virtual environment, and makes it if need be:
# by the pip that is there, since Debian's Python can't put one into it.
fetch() {
  local python home
  python=$(python3 -c 'import platform, sys; print("%d.%d" % sys.version_info[:2] if sys.version_info >= (3, 11) else "", platform.machine())') || die "python3 is needed"
  [[ $python == 3.* ]] || die "Python 3.11 or newer is needed"
  home=$PWD/.tools/schemathesis-${python/ /-}-$(sha256sum scripts/schemathesis.txt | cut -c1-12)
  if [[ ! -d $home ]]; then
    python3 -m pip --version >/dev/null 2>&1 || die "pip is needed to fetch schemathesis (package python3-pip)"
    echo "schemathesis.sh: fetching schemathesis (once)" >&2
    python3 -m venv --without-pip "$tmp/venv" || die "Python's module venv is needed"
    python3 -m pip --python "$tmp/venv/bin/python" install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --only-binary=:all: \
      --require-hashes --requirement scripts/schemathesis.txt >&2 || die "could not fetch schemathesis"
    mkdir -p .tools
    # One rename makes it visible whole; who loses a race has the same in place.
    mv -T "$tmp/venv" "$home" 2>/dev/null || [[ -d $home ]] || die "could not write $home"
  fi
  echo "$home"
}

# login USER prints a token.
login() {
  curl -fsS "$api/api/v1/auth/login" -H 'content-type: application/json' -d "{\"username\": \"$1\", \"password\": \"${1}123\"}" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])'
}

# self prints subject and id of the token on stdin.
self() {
  python3 -c 'import base64, json, sys; c = json.loads(base64.urlsafe_b64decode(sys.stdin.read().split(".")[1] + "==")); print(c["sub"], c["jti"])'
}

# run USER EXAMPLES LEAST tests all operations as a user.
run() {
  local code=0
  GATEHOUSE_TOKEN=$(login "$1") || die "can't log in as $1"
  GATEHOUSE_SELF=$(self <<<"$GATEHOUSE_TOKEN")
  export GATEHOUSE_TOKEN GATEHOUSE_SELF
  PYTHONDONTWRITEBYTECODE=1 timeout "$patience" "$venv/bin/python" -m schemathesis.cli --config-file scripts/schemathesis.toml --no-color \
    run "$api/api/v1/openapi.json" --max-examples "$2" --seed "$seed" --report ndjson --report-ndjson-path "$tmp/$1.ndjson" >"$tmp/$1.log" 2>&1 || code=$?
  if ((code == 124)); then echo "$1: did not end within ${patience}s" >>"$tmp/$1.log"; fi
  if ((code)); then
    cat "$tmp/$1.log"
    failed=1
  fi
  [[ -s $tmp/$1.ndjson ]] || die "the run as $1 left no report"
  python3 scripts/schemathesis_summary.py "$1" "$tmp/$1.ndjson" "$3" >>"$tmp/summary" || failed=1
}

venv=$(fetch)
if (($# == 0)); then
  # Control may be another user, who must be able to read the file.
  limits_file >"$tmp/limits.yaml"
  chmod 0711 "$tmp"
  chmod 0644 "$tmp/limits.yaml"
  API_LIMITS_FILE=$tmp/limits.yaml scripts/with-dev.sh scripts/schemathesis.sh
  exit
fi

api=${1%/} failed=0 begin=$SECONDS
run operator "$operator_examples" "$operator_least"
run admin "$admin_examples" "$admin_least"
cat "$tmp/summary"
((failed == 0)) || die "failed after $((SECONDS - begin))s"
echo "schemathesis: passed in $((SECONDS - begin))s"
