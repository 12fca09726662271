package devstack

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"os"

	"gatehouse/api/v1/client"
	"gatehouse/internal/config"
	"gatehouse/internal/operator"
)

// The words that make our own program an upstream: the demo app, and a provider
// of language models.
const (
	appName      = "demo-app"
	providerName = "fake-llm"
)

// Variables of the provider's environment: the keys that it accepts.
const (
	ProviderOpenAIKey    = "GATEHOUSE_FAKE_OPENAI_KEY"
	ProviderAnthropicKey = "GATEHOUSE_FAKE_ANTHROPIC_KEY"
)

// ledgerPath is where the provider tells what it has counted, on a listener of
// its own.
const ledgerPath = "/_fake/ledger"

// dailyTokens is what the stack's tenant may use a day, so that models can be
// called at once.
const dailyTokens = 1_000_000

// providerKeys are the keys of the stack's provider by their credential's name.
// They are in the environment of the provider and of the sidecars, and nowhere
// else.
type providerKeys map[string]string

func newProviderKeys() providerKeys {
	return providerKeys{"openai": "sk-dev-" + rand.Text(), "anthropic": "sk-ant-dev-" + rand.Text()}
}

// environment is the provider's.
func (k providerKeys) environment() []string {
	return []string{ProviderOpenAIKey + "=" + k["openai"], ProviderAnthropicKey + "=" + k["anthropic"]}
}

// valueOf is what the sidecars add for a credential: what the environment of this
// process has for it, the provider's key, or a demo value.
func (k providerKeys) valueOf(name string) string {
	return cmp.Or(os.Getenv(credentialOf(name).Env), k[name], "demo-credential-of-"+name)
}

// localPort is the port at which a set expects an upstream on this machine, 0
// where it does not.
func localPort(set *config.PolicySet, upstream string) int {
	if set == nil {
		return 0
	}
	u := set.Upstreams[upstream]
	if ip, err := netip.ParseAddr(u.Host); err != nil || !ip.IsLoopback() {
		return 0
	}
	return u.Port
}

// upstreams are the listeners of our own upstreams: each has one that the set
// names, and one for what it has counted.
type upstreams struct{ app, counters, provider, ledger *net.TCPListener }

// close closes our copies. The upstreams have their own: ours would keep the
// ports taking connections after their death.
func (u upstreams) close() {
	for _, l := range []*net.TCPListener{u.app, u.counters, u.provider, u.ledger} {
		if l != nil {
			_ = l.Close()
		}
	}
}

// listenFor opens the listeners where a set expects them, where that is free, and
// says where it is not.
func (s *Stack) listenFor(set *config.PolicySet) (u upstreams, err error) {
	if u.app, err = s.listenAs(set, "app", "demo app", appPort); err != nil {
		return u, err
	}
	if u.provider, err = s.listenAs(set, "openai", "fake provider", providerPort); err != nil {
		return u, err
	}
	if u.counters, err = s.claims.listen(0); err != nil {
		return u, err
	}
	u.ledger, err = s.claims.listen(0)
	return u, err
}

func (s *Stack) listenAs(set *config.PolicySet, upstream, what string, otherwise int) (*net.TCPListener, error) {
	want := localPort(set, upstream)
	l, err := s.claims.listen(cmp.Or(want, otherwise))
	if err != nil {
		return nil, err
	}
	if got := l.Addr().(*net.TCPAddr).Port; want != 0 && got != want {
		s.note("port %d is taken, so the %s is at %d; the policy set's upstream %s is not the %[2]s", want, what, got, upstream)
	}
	return l, nil
}

// startUpstreams hands each its listeners.
func (s *Stack) startUpstreams(u upstreams) error {
	err := s.inherit(program{name: "app", args: []string{appName}}, u.app, u.counters)
	if err != nil {
		return err
	}
	return s.inherit(program{name: "llm", args: []string{providerName}, env: s.keys.environment()}, u.provider, u.ledger)
}

// inherit starts our own program as an upstream, with listeners.
func (s *Stack) inherit(p program, listeners ...*net.TCPListener) error {
	for _, l := range listeners {
		f, err := l.File()
		if err != nil {
			return err
		}
		defer f.Close()
		p.files = append(p.files, f)
	}
	p.path, p.uid = selfExe, s.uids.app
	return s.run(p)
}

// hasModels reports whether a set leads to the stack's provider.
func (u upstreams) hasModels(set *config.PolicySet) bool {
	return u.provider != nil && localPort(set, "openai") == u.provider.Addr().(*net.TCPAddr).Port
}

// giveBudget gives the tenant of the stack a limit of tokens a day, unless it has
// one.
func giveBudget(ctx context.Context, c *operator.Client) error {
	r, err := c.API().CreateBudgetLimitWithResponse(ctx, client.BudgetLimitCreate{TenantId: Tenant, Tokens: dailyTokens, Window: client.Day})
	if err := operator.Done(r, err); err != nil && !operator.IsCode(err, "state.conflict") {
		return fmt.Errorf("the budget of %s: %w", Tenant, err)
	}
	return nil
}
