#!/usr/bin/env bash
# Prints the path of redis-server, version 7 or newer. Order: $REDIS_SERVER,
# PATH. Where there is none, root gets Debian's package; everybody else a
# sentence.
set -euo pipefail

oldest=7

die() { echo "redis.sh: $*" >&2; exit 1; }
version() { "$1" --version 2>/dev/null | sed -nE 's/.* v=([0-9]+)\..*/\1/p'; }
fits() { [[ -x $1 ]] && local v && v=$(version "$1") && [[ -n $v ]] && ((v >= oldest)); }

find_server() {
  local found
  found=$(command -v redis-server) && fits "$found" && echo "$found"
}

# The package would start a service; without one of our own, a policy forbids
# it for as long as the package is being installed.
install_package() {
  local policy=/usr/sbin/policy-rc.d
  echo "redis.sh: installing Debian's package redis-server (once)" >&2
  if [[ ! -e $policy ]]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 0755 "$policy"
  fi
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -q && apt-get install -qy --no-install-recommends redis-server; } >&2 </dev/null ||
    die "could not install the package redis-server; install Redis $oldest or newer by hand"
}

if [[ -n ${REDIS_SERVER:-} ]]; then
  fits "$REDIS_SERVER" || die "REDIS_SERVER=$REDIS_SERVER is no redis-server of version $oldest or newer; unset it or name another one"
  echo "$REDIS_SERVER"; exit 0
fi
if find_server; then exit 0; fi
[[ $EUID == 0 ]] && command -v apt-get >/dev/null ||
  die "no Redis $oldest or newer here; install it (Debian: apt-get install redis-server as root), or set REDIS_SERVER to its program"
install_package
find_server || die "the package redis-server has no version $oldest or newer; set REDIS_SERVER to another one"
