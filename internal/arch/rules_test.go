package arch

import (
	"strings"
	"testing"
)

// servers answer calls of other processes; each could be a process of its own.
func servers() []string { return []string{"extauthz", "proxy", "control"} }

// pure are the packages below a server that are rules alone, for all to use.
func pure() []string { return []string{"proxy/llm", "proxy/sanitize"} }

// testOnly are the packages that exist for tests.
func testOnly() []string {
	return []string{"budget/budgettest", "internal/arch", "internal/certtest", "internal/e2e", "internal/envoytest", "internal/link/linktest", "internal/pgtest", "internal/redistest", "internal/soak", "internal/tokentest"}
}

// freed returns exceptions for the test-only packages that need one.
func freed(more map[string]string, test ...string) map[string]string {
	for _, p := range test {
		more[p] = "is linked into tests only"
	}
	return more
}

func importRules() []rule { return append(edgeRules(), ownerRules()...) }

// edgeRules say which packages speak to the outside, and that they stand apart.
func edgeRules() []rule {
	return []rule{
		{
			name: "servers stand apart", who: servers(), what: servers(), own: true, but: pure(),
			reason: "what two servers share is a noun of internal/; they meet in internal/app alone",
			breaks: [2]string{"extauthz", "proxy"},
		},
		{
			name: "HTTP at the edges", who: []string{""}, what: []string{"net/http"},
			except: freed(map[string]string{
				"api/v1":             "is the API's generated server and client",
				"control/httpapi":    "is the API",
				"extauthz":           "names of methods; see TestNamesOnly",
				"internal/token":     "fetches key sets",
				"internal/telemetry": "the debug listener",
				"internal/demo":      "is a client",
				"internal/demoapp":   "is an upstream",
				"internal/fakellm":   "is an upstream",
				"internal/devstack":  "asks whether its children are ready",
				"internal/operator":  "is a client",
			}, "internal/envoytest"),
			reason: "rules are decided from values, so that they can be tested and timed without a server",
			breaks: [2]string{"policies", "net/http"},
		},
		{
			name: "gRPC at the gate", who: []string{""}, what: []string{"google.golang.org/grpc"},
			except: map[string]string{
				"extauthz":           "is a gRPC service",
				"internal/accesslog": "is a gRPC service",
				"internal/ads":       "registers the discovery service",
				"internal/app":       "runs the gate's server",
				"internal/link":      "calls the sidecars' service",
				"internal/rawgrpc":   "is a codec of the gate's server",
				"proxy":              "is a gRPC service",
				"api/v1/sidecarpb":   "is generated from the sidecars' service",
				"control/sync":       "is the sidecars' service",
			},
			reason: "only what Envoy or the other side of the mesh calls speaks gRPC",
			breaks: [2]string{"internal/ratelimit", "google.golang.org/grpc/status"},
		},
		{
			name: "Envoy's types at the gate", who: []string{""}, what: []string{"github.com/envoyproxy"},
			except: map[string]string{
				"extauthz":           "reads Envoy's requests",
				"internal/accesslog": "reads Envoy's access log",
				"internal/ads":       "moves Envoy's resources",
				"internal/app":       "registers the services",
				"internal/envoyconf": "makes Envoy's resources",
				"proxy":              "reads Envoy's messages",
			},
			reason: "a decision must not depend on the shape of Envoy's messages",
			breaks: [2]string{"policies", "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"},
		},
		{
			name: "rules of the Exchange", who: pure(), what: []string{"google.golang.org/grpc", "github.com/envoyproxy", "net/http", "os", "internal"},
			reason: "what an answer says and may carry is decided from bytes, so that every split of them can be tried",
			breaks: [2]string{"proxy/llm", "google.golang.org/grpc"},
		},
	}
}

// ownerRules say which one package owns what others may not touch.
func ownerRules() []rule {
	return []rule{
		{
			name: "one discovery server", who: []string{""}, what: []string{"github.com/envoyproxy/go-control-plane/pkg"},
			except: map[string]string{"internal/ads": "owns it"},
			reason: "what reaches Envoy goes through the revision switch",
			breaks: [2]string{"internal/envoyconf", "github.com/envoyproxy/go-control-plane/pkg/cache/v3"},
		},
		{
			name: "one policy engine", who: []string{""}, what: []string{"github.com/open-policy-agent"},
			except: map[string]string{"policies": "owns it"},
			reason: "the limits on what Rego may do are set in one place",
			breaks: [2]string{"extauthz", "github.com/open-policy-agent/opa/v1/rego"},
		},
		{
			name: "one verifier", who: []string{""}, what: []string{"github.com/lestrrat-go"},
			except: map[string]string{"internal/token": "verifies", "internal/devstack": "signs test tokens"},
			reason: "the strict gate stands before the library, and nobody may go round it",
			breaks: [2]string{"extauthz", "github.com/lestrrat-go/jwx/v3/jwt"},
		},
		{
			name: "one reader of YAML", who: []string{""}, what: []string{"github.com/goccy"},
			except: map[string]string{"internal/config": "owns it"},
			reason: "the parser is bounded by the screening before it",
			breaks: [2]string{"policies", "github.com/goccy/go-yaml"},
		},
		{
			name: "SQL in stores", who: []string{""}, what: []string{"github.com/jackc"},
			except: freed(map[string]string{
				"control/accounts":          "keeps users, clients, tenants and projects, and decides nothing",
				"budget/postgres":           "keeps the ledger, by the rules of budget",
				"control/auth/postgres":     "keeps attempts, sessions and signing keys",
				"control/breakers/postgres": "keeps reports of breakers, and orders to them",
				"control/dlq/postgres":      "keeps dead letters",
				"control/decisions":         "keeps decision records, and decides nothing",
				"control/mesh":              "keeps registrations and reports, and reads what sidecars are told",
				"control/rollout/postgres":  "keeps policy sets, revisions and activations",
				"internal/app/control":      "holds the pool that the stores share",
				"internal/postgres":         "owns what all stores share",
				"migrations":                "applies SQL files",
			}, "internal/pgtest"),
			reason: "rules are decided from values; what is kept, and how, is a store's alone, in a package named postgres",
			breaks: [2]string{"internal/pgserver", "github.com/jackc/pgx/v5/pgconn"},
		},
		{
			name: "Redis counts, and nothing else", who: []string{""}, what: []string{"github.com/redis", "github.com/alicebob"},
			except: freed(map[string]string{
				"control/rates":     "counts",
				"internal/devstack": "runs one for trying things out",
			}, "internal/redistest"),
			reason: "what must last is in Postgres; a Redis that is lost costs counters",
			breaks: [2]string{"control/mesh", "github.com/redis/go-redis/v9"},
		},
		{
			name: "one gate of another make", who: []string{""}, what: []string{"github.com/afex"},
			except: map[string]string{"internal/breaker": "owns it"},
			reason: "its state is global to the process, and it believes results of before a trip",
			breaks: [2]string{"proxy", "github.com/afex/hystrix-go/hystrix"},
		},
		{
			name: "one registry of metrics", who: []string{""}, what: []string{"github.com/prometheus"},
			except: map[string]string{"internal/telemetry": "owns it"},
			reason: "names and label bounds stand in one place",
			breaks: [2]string{"extauthz", "github.com/prometheus/client_golang/prometheus"},
		},
		{
			name: "one command line", who: []string{""}, what: []string{"github.com/spf13"},
			except: map[string]string{"internal/cli": "owns it"},
			reason: "the sidecar takes three flags and is in every pod",
			breaks: [2]string{"cmd/gatehouse-sidecar", "github.com/spf13/cobra"},
		},
		{
			name: "things meet in app", who: []string{""}, what: []string{"internal/app"},
			except: map[string]string{"cmd/gatehouse-sidecar": "starts it", "cmd/gatehouse-control": "starts it"},
			reason: "a part that knows the whole can't be tested alone",
			breaks: [2]string{"internal/token", "gatehouse/internal/app/sidecar"},
		},
		{
			name: "commands are ends", who: []string{""}, what: []string{"cmd"},
			reason: "what is worth importing does not belong into cmd",
			breaks: [2]string{"internal/cli", "gatehouse/cmd/gatehouse/flags"},
		},
		{
			name: "tests stay outside", who: []string{""}, what: append(testOnly(), testLibraries()...),
			except: freed(map[string]string{}, "budget/budgettest", "internal/certtest", "internal/envoytest", "internal/link/linktest", "internal/pgtest", "internal/redistest", "internal/tokentest"),
			reason: "test helpers switch off what the product relies on",
			breaks: [2]string{"internal/devstack", "gatehouse/internal/tokentest"},
		},
	}
}

// testLibraries are for tests. The package testing itself is linked by two
// libraries of the product, so that it is asked for in imports only.
func testLibraries() []string {
	return append(linkedTestLibraries(), "testing")
}

func linkedTestLibraries() []string {
	return []string{
		"net/http/httptest", "testing/fstest", "testing/iotest", "testing/synctest",
		"github.com/anishathalye/porcupine", "github.com/anthropics/anthropic-sdk-go", "github.com/getkin/kin-openapi", "github.com/google/go-cmp", "github.com/openai/openai-go", "go.uber.org/goleak", "pgregory.net/rapid",
	}
}

func linkRules() []rule {
	return []rule{
		{
			name: "a lean sidecar", who: []string{"cmd/gatehouse-sidecar"}, links: true,
			what: []string{
				"github.com/jackc/pgx", "github.com/redis", "github.com/nats-io", "github.com/spf13",
				"control", "migrations", "internal/cli", "internal/demo", "internal/demoapp", "internal/devstack", "internal/fakellm", "internal/pgserver",
			},
			reason: "it is in every pod and holds no key to the stores",
			breaks: [2]string{"cmd/gatehouse-sidecar", "github.com/jackc/pgx/v5/pgconn"},
		},
		{
			name: "no test code in binaries", who: []string{"cmd"}, links: true,
			what:   append(testOnly(), linkedTestLibraries()...),
			reason: "test code registers flags and trusts its input",
			breaks: [2]string{"cmd/gatehouse", "pgregory.net/rapid"},
		},
	}
}

func rules() []rule { return append(importRules(), linkRules()...) }

func TestRules(t *testing.T) {
	t.Parallel()
	all := packages(t)
	for _, r := range rules() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			found, unused := check(r, all)
			for _, v := range found {
				t.Error(v)
			}
			for _, e := range unused {
				t.Errorf("%s: the exception for %s (%s) is not needed; remove it", r.name, e, r.except[e])
			}
		})
	}
}

// TestEachRuleCanFail breaks every rule in the way that it names itself.
func TestEachRuleCanFail(t *testing.T) {
	t.Parallel()
	for _, r := range rules() {
		bad := pkg{ImportPath: module + "/" + r.breaks[0], Imports: []string{r.breaks[1]}}
		if r.links {
			bad.Imports, bad.Deps = nil, bad.Imports
		}
		if found, _ := check(r, []pkg{bad}); len(found) != 1 {
			t.Errorf("%s: %s importing %s gave %v, want one violation", r.name, r.breaks[0], r.breaks[1], found)
		}
		if r.reason == "" {
			t.Errorf("%s: has no reason", r.name)
		}
	}
}

// TestRulesBindSomebody finds a rule whose packages have moved away.
func TestRulesBindSomebody(t *testing.T) {
	t.Parallel()
	all := packages(t)
	for _, r := range rules() {
		bound := 0
		for _, p := range all {
			if matches(p.short(), r.who) {
				bound++
			}
		}
		if bound == 0 {
			t.Errorf("%s: binds no package; who is %s", r.name, strings.Join(r.who, ", "))
		}
	}
}
