package live_test

import (
	"testing"
	"time"

	"gatehouse/internal/live"
	"gatehouse/internal/request"
)

func state() *live.State {
	return &live.State{
		Epoch:     3,
		Subjects:  map[string]int64{"alice": 1000},
		Tokens:    map[live.Token]struct{}{{Tenant: "org1", ID: "t-1"}: {}, {Tenant: "*", ID: "t-2"}: {}},
		Suspended: map[string]struct{}{"org9": {}},
		Blocked:   map[live.Agent]struct{}{{Tenant: "org1", Name: "id-1"}: {}, {Tenant: "org1", Name: "tester"}: {}},
	}
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	at := func(second int64) time.Time { return time.Unix(second, 999_999_999) }
	token := func(edit func(*request.Principal)) request.Principal {
		p := request.Principal{Kind: request.KindToken, Subject: "bob", Tenant: "org1", Agent: "id-2", TokenID: "t-0", Issued: at(900)}
		edit(&p)
		return p
	}
	alice := func(issued time.Time) request.Principal {
		return token(func(p *request.Principal) { p.Subject, p.Issued = "alice", issued })
	}
	first := token(func(p *request.Principal) { p.TokenID = "t-1" })
	for name, c := range map[string]struct {
		p       request.Principal
		foreign bool // the token is not control's
		want    string
	}{
		"nothing is known":                {p: token(func(*request.Principal) {})},
		"subject, issued before":          {p: alice(at(999)), want: live.RuleTokenRevoked},
		"subject, in that second":         {p: alice(at(1000)), want: live.RuleTokenRevoked},
		"subject, one second later":       {p: alice(at(1001))},
		"subject, issued nobody knows":    {p: alice(time.Time{}), want: live.RuleTokenRevoked},
		"subject of another issuer":       {p: alice(at(1)), foreign: true},
		"another subject without a date":  {p: token(func(p *request.Principal) { p.Issued = time.Time{} })},
		"token id":                        {p: first, want: live.RuleTokenRevoked},
		"token id of another issuer":      {p: first, foreign: true},
		"token id of another tenant":      {p: token(func(p *request.Principal) { p.TokenID, p.Tenant = "t-1", "org2" })},
		"token id, whosever it is":        {p: token(func(p *request.Principal) { p.TokenID, p.Tenant = "t-2", "org2" }), want: live.RuleTokenRevoked},
		"no token id":                     {p: token(func(p *request.Principal) { p.TokenID = "" })},
		"tenant":                          {p: token(func(p *request.Principal) { p.Tenant = "org9" }), want: live.RuleTenantSuspended},
		"tenant, token of another issuer": {p: token(func(p *request.Principal) { p.Tenant = "org9" }), foreign: true, want: live.RuleTenantSuspended},
		"agent by id":                     {p: token(func(p *request.Principal) { p.Agent = "id-1" }), want: live.RuleAgentBlocked},
		"agent by name":                   {p: token(func(p *request.Principal) { p.Agent = "tester" }), foreign: true, want: live.RuleAgentBlocked},
		"agent of another tenant":         {p: token(func(p *request.Principal) { p.Agent, p.Tenant = "tester", "org2" })},
		"workload of an agent":            {p: request.Principal{Kind: request.KindWorkload, Tenant: "org1", Agent: "id-1"}, want: live.RuleAgentBlocked},
		"workload of a suspended tenant":  {p: request.Principal{Kind: request.KindWorkload, Tenant: "org9"}, want: live.RuleTenantSuspended},
		"anonymous":                       {p: request.Anonymous()},
	} {
		refusal, refused := state().Refuse(&c.p, !c.foreign)
		if refusal.Rule != c.want || refused != (c.want != "") || (refusal.Reason == "") != (c.want == "") {
			t.Errorf("%s: got %+v, %v, want %q", name, refusal, refused, c.want)
		}
	}
}

// Empty names in what control sends refuse nobody who has none.
func TestRefuseNobodyWithoutAName(t *testing.T) {
	t.Parallel()
	s := &live.State{Tokens: map[live.Token]struct{}{{}: {}, {Tenant: "*"}: {}}, Blocked: map[live.Agent]struct{}{{}: {}, {Tenant: "org1"}: {}}}
	for _, p := range []request.Principal{request.Anonymous(), {Kind: request.KindToken, Tenant: "org1", Subject: "bob"}} {
		if refusal, refused := s.Refuse(&p, true); refused {
			t.Errorf("%+v: %+v", p, refusal)
		}
	}
}

func TestStaleness(t *testing.T) {
	t.Parallel()
	const never = -1 << 62
	for name, c := range map[string]struct {
		unmanaged     bool
		age           time.Duration
		guarded, lost bool
	}{
		"never":                       {age: never, guarded: true, lost: true},
		"just now":                    {},
		"almost guarded":              {age: live.GuardAfter},
		"guarded":                     {age: live.GuardAfter + 1, guarded: true},
		"almost lost":                 {age: live.LostAfter, guarded: true},
		"lost":                        {age: live.LostAfter + 1, guarded: true, lost: true},
		"a moment ahead":              {age: -time.Minute},
		"in the future":               {age: -time.Minute - 1, guarded: true, lost: true},
		"nobody manages":              {unmanaged: true, age: never},
		"nobody manages, but one did": {unmanaged: true, age: live.LostAfter + 1},
	} {
		now := time.Unix(1_800_000_000, 0)
		d := live.New(live.Binding{}, !c.unmanaged, func() time.Time { return now })
		if c.age != never {
			d.Confirm(now.Add(-c.age))
			if got := d.Confirmed(); !got.Equal(now.Add(-c.age)) {
				t.Errorf("%s: confirmed %s", name, got)
			}
		} else if !d.Confirmed().IsZero() {
			t.Errorf("%s: confirmed %s", name, d.Confirmed())
		}
		if d.Guarded() != c.guarded || d.Lost() != c.lost {
			t.Errorf("%s: guarded %v, lost %v", name, d.Guarded(), d.Lost())
		}
	}
}

// Each part is replaced as a whole, and a later confirmation ends staleness.
func TestDataIsReplaced(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	d := live.New(live.Binding{Tenant: "org1"}, true, func() time.Time { return now })
	if d.Binding().Tenant != "org1" || d.State().Epoch != 0 {
		t.Errorf("at first: %+v, %+v", d.Binding(), d.State())
	}
	held := d.State()
	d.SetState(state())
	d.Bind(live.Binding{Tenant: "org2"})
	if d.Binding().Tenant != "org2" || d.State().Epoch != 3 || held.Epoch != 0 {
		t.Errorf("after: %+v, %+v, held %+v", d.Binding(), d.State(), held)
	}
	d.Confirm(now)
	now = now.Add(live.LostAfter + time.Second)
	if !d.Lost() {
		t.Error("not lost")
	}
	d.Confirm(now)
	if d.Lost() || d.Guarded() {
		t.Error("stale after a confirmation")
	}
}

// BenchmarkRefuse is what each check pays: no allocation, whatever is revoked.
func BenchmarkRefuse(b *testing.B) {
	s := state()
	p := request.Principal{Kind: request.KindToken, Subject: "bob", Tenant: "org1", Agent: "id-2", TokenID: "t-0", Issued: time.Unix(900, 0)}
	b.ReportAllocs()
	for b.Loop() {
		if _, refused := s.Refuse(&p, true); refused {
			b.Fatal("refused")
		}
	}
}

func TestRefuseDoesNotAllocate(t *testing.T) {
	s := state()
	p := request.Principal{Kind: request.KindToken, Subject: "alice", Tenant: "org1", Agent: "id-2", TokenID: "t-0", Issued: time.Unix(900, 0)}
	if n := testing.AllocsPerRun(100, func() { s.Refuse(&p, true) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
