#!/usr/bin/env bash
# Makes the files named *.gen.* from openapi.yaml, and those of sidecarpb from
# sidecar.proto; with --check, fails if one is out of date and writes nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

tools=../../internal/tools
to=.
if [[ ${1:-} == --check ]]; then
  to=$(mktemp -d)
  trap 'rm -rf "$to"' EXIT
  mkdir "$to/client" "$to/sidecarpb"
fi

oapi() { go tool -modfile="$tools/go.mod" oapi-codegen "$@" openapi.yaml; }
go -C "$tools" run ./yamljson <openapi.yaml >"$to/openapi.gen.json.new"
mv "$to/openapi.gen.json.new" "$to/openapi.gen.json"
oapi -config server.config.yaml -o "$to/server.gen.go"
oapi -config client/client.config.yaml -o "$to/client/client.gen.go"
(here=$PWD && cd "$to" && to=$PWD && go -C "$here/$tools" run ./protogo "$here/sidecar.proto" "$to/sidecarpb")

[[ $to != . ]] || exit 0
for file in openapi.gen.json server.gen.go client/client.gen.go sidecarpb/sidecar.pb.go sidecarpb/sidecar_grpc.pb.go; do
  cmp -s "$file" "$to/$file" || { echo "api/v1/$file is out of date; run: make generate" >&2; exit 1; }
done
