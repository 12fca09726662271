#!/usr/bin/env bash
# Prints the folder of postgres and initdb, version 14 or newer. Order:
# $POSTGRES_BIN, PATH, pg_config, where packages put them. Where there is none,
# root gets Debian's package; everybody else a sentence.
set -euo pipefail

oldest=14

die() { echo "postgres.sh: $*" >&2; exit 1; }
version() { "$1/postgres" --version 2>/dev/null | sed -nE 's/^postgres \(PostgreSQL\) ([0-9]+).*/\1/p'; }
fits() { [[ -x $1/initdb ]] && local v && v=$(version "$1") && [[ -n $v ]] && ((v >= oldest)); }

# places lists the folders where the programs may be, the newest version first.
places() {
  local found
  if found=$(command -v postgres); then dirname "$(readlink -f "$found")"; fi
  pg_config --bindir 2>/dev/null || true
  printf '%s\n' /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/pgsql/bin | sort -rV
}

find_bin() {
  local dir
  while read -r dir; do
    if fits "$dir"; then echo "$dir"; return 0; fi
  done < <(places)
  return 1
}

install_package() {
  echo "postgres.sh: installing Debian's package postgresql (once)" >&2
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -q && apt-get install -qy --no-install-recommends postgresql; } >&2 </dev/null ||
    die "could not install the package postgresql; install PostgreSQL $oldest or newer by hand"
}

if [[ -n ${POSTGRES_BIN:-} ]]; then
  fits "$POSTGRES_BIN" || die "POSTGRES_BIN=$POSTGRES_BIN has no initdb and postgres of version $oldest or newer; unset it or name another folder"
  echo "$POSTGRES_BIN"; exit 0
fi
if find_bin; then exit 0; fi
[[ $EUID == 0 ]] && command -v apt-get >/dev/null ||
  die "no PostgreSQL $oldest or newer here; install it (Debian: apt-get install postgresql as root), or set POSTGRES_BIN to the folder of postgres and initdb"
install_package
find_bin || die "the package postgresql has no version $oldest or newer; set POSTGRES_BIN to the folder of another one"
