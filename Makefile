# Gatehouse: build, try out, test. `make` alone lists the targets.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS   += --no-print-directory

# What a caller may set.
EXIT     ?=
ARGS     ?=
PKG      ?= ./...
BENCH    ?= .
FUZZTIME ?= 10s
RUNS     ?= 100
KILLS    ?= 10
KILL_SECONDS ?= 60
SEED     ?= 0

# Packages whose tests run whole processes. They are timed, and run one by one
# without the race detector; all others run with it where there is a C compiler.
# What a test learns from another process the cache of go test does not see:
# these and internal/arch are run anew.
PROCESS := ./internal/e2e ./internal/devstack ./internal/demo ./internal/cli ./internal/pgserver ./internal/pgtest ./internal/redistest ./control/rates ./migrations ./internal/soak
RACE     = $$([ "$$(go env CGO_ENABLED)" = 1 ] && command -v "$$(go env CC)" >/dev/null && echo -race || true)
OTHERS   = $$(go list ./... | grep -vxF "$$(go list $(PROCESS))")

# Without ST1005: an error may begin with a name, such as Envoy.
STATICCHECK := go tool -modfile=internal/tools/go.mod staticcheck -checks inherit,-ST1005
ENVOY_CONFIG := bin/gatehouse envoy-config policies/shipped --sidecar deploy/sidecar.example.yaml

.PHONY: help setup build demo dev test test-race e2e soak smoke schemathesis bench fuzz fmt generate verify lint arch check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

setup: ## fetch what is missing: Envoy (into .tools), Postgres and Redis (from the system) and the Go modules
	@scripts/envoy.sh >/dev/null
	@scripts/postgres.sh >/dev/null
	@scripts/redis.sh >/dev/null
	@go mod download

build: ## build bin/gatehouse, bin/gatehouse-control and bin/gatehouse-sidecar
	@go build -trimpath -o bin/ ./cmd/...

demo: setup build ## run everything, send real traffic, show what is decided; EXIT=1 ends after it
	@ENVOY=$$(scripts/envoy.sh) bin/gatehouse demo $(if $(EXIT),--exit)

dev: setup build ## run everything until Ctrl-C; ARGS="--data DIR --policies DIR"
	@ENVOY=$$(scripts/envoy.sh) bin/gatehouse dev $(ARGS)

test: setup test-race e2e ## the whole suite

test-race: ## tests of the parts, with the race detector where there is a C compiler
	@race=$(RACE); [ -n "$$race" ] || echo "no C compiler: the race detector is off"; \
	go test $$race $(OTHERS)

e2e: setup ## tests that run whole processes, a real Envoy, Postgres and Redis
	@ENVOY=$$(scripts/envoy.sh) go test -count=1 -p 1 -timeout 9m $(PROCESS)

soak: setup ## hold the budget against crowds (RUNS of them) and kills (KILLS rounds of KILL_SECONDS); SEED=0 draws one
	@ENVOY=$$(scripts/envoy.sh) go test -count=1 -v -timeout 1h ./internal/soak -soak.runs $(RUNS) -soak.kills $(KILLS) -soak.seconds $(KILL_SECONDS) -soak.seed $(SEED)

smoke: setup build ## ask a control service of its own what it must answer
	@scripts/smoke.sh

schemathesis: setup build ## hold the API against its document: what it allows, and what it does not
	@scripts/schemathesis.sh

bench: ## benchmarks; PKG=./internal/token BENCH=Verify
	@go test -run '^$$' -bench '$(BENCH)' $(PKG)

fuzz: ## every fuzz target for FUZZTIME (10s); PKG=./internal/token
	@files=$$(go list -f '{{$$d := .Dir}}{{range .TestGoFiles}}{{$$d}}/{{.}} {{end}}' $(PKG)); \
	grep -HoE '^func Fuzz[A-Za-z0-9_]+' $$files | while IFS=: read -r file target; do \
	  target=$${target#func }; echo "$$target in $${file%/*}"; \
	  go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$${file%/*}" </dev/null; \
	done

fmt: ## format the Go files
	@gofmt -w $$(go list -f '{{.Dir}}' ./...)

generate: build ## write anew what is generated: envoy.yaml, the API's server and client
	@$(ENVOY_CONFIG) > envoy.yaml.new
	@mv envoy.yaml.new envoy.yaml
	@api/v1/generate.sh

verify: build ## fail if anything generated is out of date
	@$(ENVOY_CONFIG) | diff -u envoy.yaml - || { echo "envoy.yaml is out of date; run: make generate" >&2; exit 1; }
	@api/v1/generate.sh --check
	@go mod tidy -diff
	@go -C internal/tools mod tidy -diff

lint: ## gofmt, go vet, staticcheck, go fix
	@bad=$$(gofmt -l $$(go list -f '{{.Dir}}' ./...)); [ -z "$$bad" ] || { echo "not formatted; run: make fmt"; echo "$$bad"; exit 1; } >&2
	@go vet ./...
	@$(STATICCHECK) ./...
	@bad=$$(go fix -diff ./... || true); [ -z "$$bad" ] || { echo "$$bad"; echo "old ways; run: go fix ./..."; exit 1; } >&2

arch: ## rules on imports, source and documents
	@go test -count=1 ./internal/arch

check: lint verify arch ## what is checked besides tests

clean: ## remove what was built and fetched
	@rm -rf bin .tools
