package demo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"gatehouse/internal/devstack"
)

// rows is the demo. Some edit the policy and put it back. A stack that ends
// after it loses its control in the last rows.
func rows(ends bool) []row {
	all := slices.Concat(tokenRows(), requestRows(), outboundRows(), limitRows(), controlRows(), policyRows(), meshRows(), llmRows(), budgetRows(), breakerRows())
	if ends {
		all = append(all, killRows()...)
	}
	return all
}

func refused(status int, code string) want { return want{status: status, code: code} }
func allowed() want                        { return want{status: http.StatusOK, reached: 1} }

type sender = func(context.Context, *probe) (answer, error)

// anonymously sends a request without a token.
func anonymously(t try) sender {
	return func(ctx context.Context, p *probe) (answer, error) { return p.do(ctx, t) }
}

// as sends a request with a role's token.
func as(role string, t try) sender {
	return with(devstack.Claims{Role: role}, t, own, "authorization")
}

// with sends a request with a token of a key in each of some header slots.
func with(c devstack.Claims, t try, key func(*probe) *devstack.Key, slots ...string) sender {
	c.Subject, c.Tenant, c.Project = c.Role+"-1", "org1", "proj1"
	return func(ctx context.Context, p *probe) (answer, error) {
		token, err := key(p).Mint(time.Now(), c)
		if err != nil {
			return answer{}, err
		}
		header := map[string]string{}
		maps.Copy(header, t.header)
		for _, slot := range slots {
			header[slot] = token
			if slot == "authorization" {
				header[slot] = "Bearer " + token
			}
		}
		sent := t
		sent.header = header
		return p.do(ctx, sent)
	}
}

func own(p *probe) *devstack.Key    { return p.key }
func forged(p *probe) *devstack.Key { return p.forger }

// sees demands what the upstream saw of a header; "" means that it must be absent.
func sees(headers map[string]string) func(answer) error {
	return func(a answer) error {
		var errs []error
		for name, value := range headers {
			if got := a.seen.Header(name); got != value {
				errs = append(errs, fmt.Errorf("the upstream saw %s: %q, expected %q", name, got, value))
			}
		}
		return errors.Join(errs...)
	}
}

// answers demands headers of the answer, whatever their values.
func answers(names ...string) func(answer) error {
	return func(a answer) error {
		var errs []error
		for _, name := range names {
			if a.header.Get(name) == "" {
				errs = append(errs, fmt.Errorf("the answer has no %s", name))
			}
		}
		return errors.Join(errs...)
	}
}

func tokenRows() []row {
	tasks := try{path: "/tasks"}
	create := try{method: http.MethodPost, path: "/tasks", body: `{"title": "demo"}`}
	developer := devstack.Claims{Role: "developer"}
	return []row{
		{what: "no token", want: refused(401, "auth.missing_token"),
			why: "the route needs one", send: anonymously(tasks), check: answers("www-authenticate")},
		{what: "developer reads", want: allowed(),
			why: "developer has task.view", send: as("developer", tasks),
			check: sees(map[string]string{"x-gatehouse-role": "developer", "x-gatehouse-tenant": "org1", "authorization": ""})},
		{what: "developer writes", want: allowed(),
			why: "developer has task.create", send: as("developer", create)},
		{what: "observer reads", want: allowed(),
			why: "observer has task.view", send: as("observer", tasks)},
		{what: "observer writes", want: refused(403, "auth.forbidden"),
			why: "observer lacks task.create", send: as("observer", create)},
		{what: "expired token", want: refused(401, "auth.expired_token"),
			why: "it was good an hour ago", send: with(devstack.Claims{Role: "developer", Expired: true}, tasks, own, "authorization")},
		{what: "forged token", want: refused(401, "auth.invalid_token"),
			why: "signed by another key of the same name", send: with(developer, tasks, forged, "authorization")},
		{what: "two tokens", want: refused(400, "validation.malformed"),
			why: "who is it? authorization and x-api-key both", send: with(developer, tasks, own, "authorization", "x-api-key")},
		{what: "token as an SDK's api key", want: allowed(),
			why: "x-api-key is a token slot; the token is removed", send: with(developer, tasks, own, "x-api-key"),
			check: sees(map[string]string{"x-api-key": "", "x-gatehouse-role": "developer"})},
		{what: "role claimed by a header", want: allowed(),
			why:   "x-gatehouse-role: admin was replaced by the real one",
			send:  as("observer", try{path: "/tasks", header: map[string]string{"x-gatehouse-role": "admin"}}),
			check: sees(map[string]string{"x-gatehouse-role": "observer"})},
	}
}

func requestRows() []row {
	return []row{
		{what: "method that is not listed", want: refused(405, "validation.method_not_allowed"),
			why: "/tasks names no permission for PUT", send: as("developer", try{method: http.MethodPut, path: "/tasks"})},
		{what: "path that no route has", want: refused(404, "resource.not_found"),
			why: "nothing is open by default", send: as("admin", try{path: "/nowhere"})},
		{what: "/tasks/..%2f..%2fadmin", want: refused(400, "validation.malformed"),
			why: "an escaped slash means two things", send: rawPath("/tasks/..%2f..%2fadmin")},
		{what: "/tasks/1;x=1", want: refused(400, "validation.malformed"),
			why: "a path parameter hides from rules", send: rawPath("/tasks/1;x=1")},
		{what: "body over the route's 64KiB", want: refused(413, "validation.too_large"),
			why: "policy must see all of it", send: as("developer", try{method: http.MethodPost, path: "/tasks-import", body: strings.Repeat("x", 80<<10)})},
		{what: "public page, no token", want: allowed(),
			why: "its route says principal: none", send: anonymously(try{path: "/status"}),
			check: sees(map[string]string{"x-gatehouse-role": "anonymous"})},
		{what: "public page, forged token", want: refused(401, "auth.invalid_token"),
			why: "a bad token is never passed over", send: with(devstack.Claims{Role: "developer"}, try{path: "/status"}, forged, "authorization")},
		{what: "health probe", want: allowed(),
			why: "exempt: asks nobody, works without the sidecar", send: anonymously(try{path: "/healthz"})},
	}
}

func rawPath(path string) sender {
	return func(ctx context.Context, p *probe) (answer, error) {
		token, err := p.key.Mint(time.Now(), devstack.Claims{Subject: "developer-1", Role: "developer", Tenant: "org1"})
		if err != nil {
			return answer{}, err
		}
		return p.raw(ctx, path, token)
	}
}

// foreignKey is a key of somebody else's: not a token of ours.
const foreignKey = "sk-somebody-elses-key"

func outboundRows() []row {
	credential := "Bearer " + devstack.CredentialValue("tools")
	foreign := map[string]string{"authorization": "Bearer " + foreignKey, "x-api-key": foreignKey}
	return []row{
		{what: "the workload calls a tool", want: allowed(),
			why:  "no token: the sidecar's own principal; key added",
			send: anonymously(try{outbound: true, path: "/tools/search"}),
			check: func(a answer) error {
				return errors.Join(sees(map[string]string{"authorization": credential})(a), seesNoIdentity(a))
			}},
		{what: "own key to a tool with a key", want: allowed(),
			why:   "removed: the upstream gets our key only",
			send:  anonymously(try{outbound: true, path: "/tools/search", header: foreign}),
			check: sees(map[string]string{"authorization": credential, "x-api-key": ""})},
		{what: "own key to an open upstream", want: allowed(),
			why:   "it is no token of ours, and passes",
			send:  anonymously(try{outbound: true, path: "/open/search", header: foreign}),
			check: sees(foreign)},
		{what: "our token to an open upstream", want: allowed(),
			why:   "it says who calls, and goes no further",
			send:  with(devstack.Claims{Role: "developer"}, try{outbound: true, path: "/open/search"}, own, "x-api-key"),
			check: sees(map[string]string{"x-api-key": ""})},
		{what: "an observer's agent calls a tool", want: refused(403, "auth.forbidden"),
			why: "observer lacks task.create", send: as("observer", try{outbound: true, path: "/tools/search"})},
	}
}

// seesNoIdentity: who calls is nobody's business outside.
func seesNoIdentity(a answer) error {
	for name := range a.seen.Headers {
		if strings.HasPrefix(name, "x-gatehouse-") {
			return fmt.Errorf("the upstream saw %s", name)
		}
	}
	return nil
}

// limitBurst is the burst of the route /limited.
const limitBurst = 5

func limitRows() []row {
	limited := as("developer", try{path: "/limited"})
	return []row{
		{what: "sixth request of five a minute", want: refused(429, "rate_limit.exceeded"),
			why: "five passed; a refused one costs nothing", prepare: useUp(limited), send: limited,
			check: answers("retry-after", "ratelimit", "ratelimit-policy", "x-ratelimit-limit")},
		{what: "the same, by somebody else", want: allowed(),
			why: "the limit counts each principal", send: as("observer", try{path: "/limited"}), check: answers("ratelimit")},
	}
}

func useUp(send sender) func(context.Context, *probe) (string, error) {
	return func(ctx context.Context, p *probe) (string, error) {
		for i := range limitBurst {
			a, err := send(ctx, p)
			if err == nil && a.status != http.StatusOK {
				err = fmt.Errorf("request %d of %d was answered %s", i+1, limitBurst, a)
			}
			if err != nil {
				return "", err
			}
		}
		return "", nil
	}
}
