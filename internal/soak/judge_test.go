package soak

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"strings"

	api "gatehouse/api/v1/client"
	"gatehouse/internal/fakellm"
)

// maxComplaints bounds what is told of one run.
const maxComplaints = 20

// charge is what the journal says of one request, in one limit.
type charge struct {
	hold     int64 // what it held at most
	reserved int64 // what it still holds
	used     int64
	overrun  int64
}

// verdict joins what is known of each exchange of a run.
type verdict struct {
	w        *world
	limits   limits
	outcomes []*outcome
	ledger   fakellm.Ledger
	charges  map[string]charge // by request id
	settled  map[string]string // why each was charged so, as the sidecar told; nil where that isn't asked for

	complaints int
}

// judge gathers it, when all is quiet.
func (w *world) judge(l limits, outcomes []*outcome) *verdict {
	w.t.Helper()
	v := &verdict{w: w, limits: l, outcomes: outcomes, ledger: w.provider.Ledger()}
	lines := w.journal(l)
	v.charges = tally(lines, l.tenant.Id)
	for id, c := range tally(lines, l.project.Id) {
		if c != v.charges[id] {
			v.complain("request %s is %+v in the project's limit and %+v in the tenant's", id, c, v.charges[id])
		}
	}
	if _, more := v.ledger.Requests[fakellm.OtherRequests]; more {
		v.complain("the provider saw more requests than it can tell apart")
	}
	for _, leak := range v.ledger.Leaks {
		v.complain("the provider saw what is none of its business: %+v", leak)
	}
	return v
}

func (v *verdict) complain(format string, args ...any) {
	v.w.t.Helper()
	if v.complaints++; v.complaints <= maxComplaints {
		v.w.t.Errorf(format, args...)
	}
}

// tally sums the journal's lines of one limit by request.
func tally(lines []api.BudgetTransaction, limit string) map[string]charge {
	all := map[string]charge{}
	for _, l := range lines {
		if l.LimitId != limit || l.RequestId == nil {
			continue
		}
		c := all[*l.RequestId]
		c.hold += max(0, l.Reserved)
		c.reserved += l.Reserved
		c.used += l.Used
		c.overrun += l.Overrun
		all[*l.RequestId] = c
	}
	return all
}

// bounded demands of each exchange that what was billed is charged, and that no
// more is charged than was held; and that the journal explains each figure.
func (v *verdict) bounded(usage []api.BudgetUsage) {
	v.w.t.Helper()
	for id, e := range v.ledger.Requests {
		c, held := v.charges[id]
		switch {
		case !held:
			v.complain("request %s reached the provider without a hold: %+v", id, e)
		case c.used < e.Billed:
			v.complain("request %s was billed %d and charged %d: %+v, %+v %s", id, e.Billed, c.used, e, c, v.settled[id])
		}
	}
	var sum charge
	for id, c := range v.charges {
		if c.reserved != 0 || c.overrun != 0 || c.used > c.hold {
			v.complain("request %s holds, overruns or exceeds its hold: %+v, %+v", id, c, v.ledger.Requests[id])
		}
		sum.used, sum.reserved, sum.overrun = sum.used+c.used, sum.reserved+c.reserved, sum.overrun+c.overrun
	}
	for _, u := range usage {
		if u.Used != sum.used || u.Reserved != sum.reserved || u.Overrun != sum.overrun {
			v.complain("the journal comes to %+v, and the limit says %+v", sum, u)
		}
		if u.Used+u.Overrun > u.Limit || u.Used < v.ledger.Totals.Billed {
			v.complain("the provider billed %d of %+v", v.ledger.Totals.Billed, u)
		}
	}
	for _, o := range v.outcomes {
		if _, held := v.charges[o.id]; o.status == http.StatusOK && o.id != "" && !held {
			v.complain("request %s was answered 200 without a hold", o.id)
		}
	}
}

// exact demands what holds when nobody is killed: what was reported to us is
// charged to the token, and what never reached the provider is not charged.
func (v *verdict) exact() {
	v.w.t.Helper()
	for id, rule := range v.settled {
		e, c := v.ledger.Requests[id], v.charges[id]
		if rule == "reported" && c.used != e.Billed {
			v.complain("request %s was billed %d as we were told, and charged %d: %+v", id, e.Billed, c.used, e)
		}
	}
	for id, c := range v.charges {
		if v.ledger.Requests[id].Calls == 0 && c.used != 0 {
			v.complain("request %s never reached the provider, and was charged %d (%s)", id, c.used, v.settled[id])
		}
	}
	for _, o := range v.outcomes {
		e, c := v.ledger.Requests[o.id], v.charges[o.id]
		switch {
		case o.reported() && c.used != e.Billed:
			v.complain("the client saw the end of request %s, which was billed %d and charged %d (%s): %+v", o.id, e.Billed, c.used, v.settled[o.id], *o.request)
		case strings.HasPrefix(o.code, "budget.") && (e.Calls > 0 || c.used > 0):
			v.complain("request %s was refused by the budget, and billed %d, charged %d", o.id, e.Billed, c.used)
		}
	}
}

// busy demands that the run was one: enough went through, was refused and was
// broken off for the rest to mean something.
func (v *verdict) busy(least int) {
	v.w.t.Helper()
	kinds := map[string]int{}
	for _, o := range v.outcomes {
		kinds[o.kind()]++
	}
	v.w.t.Logf("%d exchanges: %v; charged as: %v; the provider saw %d and billed %d", len(v.outcomes), kinds, v.rules(), len(v.ledger.Requests), v.ledger.Totals.Billed)
	for _, kind := range []string{"told", "refused", "broken"} {
		if kinds[kind] < least {
			v.complain("too little happened: %d %s, want %d: %v", kinds[kind], kind, least, kinds)
		}
	}
}

// rules counts why exchanges were charged what they were.
func (v *verdict) rules() map[string]int {
	all := map[string]int{}
	for id := range v.charges {
		if rule, told := v.settled[id]; told {
			all[rule]++
		}
	}
	return all
}

// told reads why each exchange was charged what it was, from the sidecar's log.
func (w *world) told() map[string]string {
	w.t.Helper()
	f, err := os.Open(w.path("sidecar.log"))
	must(w.t, err)
	defer f.Close()
	all := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var l struct {
			Msg, Settled string
			ID           string `json:"request_id"`
		}
		if json.Unmarshal(lines.Bytes(), &l) == nil && l.Msg == "exchange" {
			all[l.ID] = l.Settled
		}
	}
	must(w.t, lines.Err())
	return all
}

// kept demands that the sidecar gave up no settlement: neither this process of
// it, by its metrics, nor those before it, by their log.
func (v *verdict) kept() {
	v.w.t.Helper()
	for _, name := range []string{"gatehouse_settlements_lost_total", "gatehouse_ledger_alarm"} {
		if n, err := v.w.metric(v.w.t.Context(), name); err != nil || n != 0 {
			v.complain("%s is %v, %v", name, n, err)
		}
	}
	text, err := os.ReadFile(v.w.path("sidecar.log"))
	must(v.w.t, err)
	if n := strings.Count(string(text), `"msg":"a settlement is lost`); n > 0 {
		v.complain("the sidecar told %d times that it gave up settlements", n)
	}
}
