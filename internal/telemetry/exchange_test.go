package telemetry

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func sampleExchange() *Exchange {
	return &Exchange{
		Route: "chat", Outcome: "cut", Class: "answer", Held: 5000, Charged: 70, Reported: 60,
		FirstEvent: 1500 * time.Millisecond, Findings: []Finding{{"sql", "redact", 2}, {"html", "block", 1}},
		CheckID: "c-1", Model: "gpt-5\n\x1b[31m", Stream: true, Settled: "broken", Flagged: true,
	}
}

const exchangeMember = `,"exchange":{"outcome":"cut","check_id":"c-1","model":"gpt-5\n\u001b[31m","stream":true,"held":5000,"charged":70,"reported":60,` +
	`"settled":"broken","flagged":true,"first_event_us":1500000,` +
	`"findings":[{"class":"sql","action":"redact","count":2},{"class":"html","action":"block","count":1}]}`

func TestExchangeInItsRecord(t *testing.T) {
	t.Parallel()
	d := sampleDecision()
	d.Exchange = sampleExchange()
	want := strings.TrimSuffix(decisionLine, "}\n") + exchangeMember + "}\n"
	for _, when := range []string{"as given", "as kept"} {
		if diff := cmp.Diff(want, string(d.appendJSON(nil))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
		d.own()
	}
	d.Exchange = &Exchange{Outcome: "free"}
	if line := string(d.appendJSON(nil)); !strings.Contains(line, `"findings":[]}`) {
		t.Errorf("without findings: %s", line)
	}
}

func TestExchangeIsForwardedWithItsRecord(t *testing.T) {
	t.Parallel()
	r := NewRecords("unused", NewMetrics("v1"))
	var got string
	r.Forward(func(d *Decision, line []byte) { got = fmt.Sprint(d.Exchange.Model, " ", string(line)) })
	d := sampleDecision()
	d.Exchange = sampleExchange()
	r.Decision(d)
	r.append(nil, <-r.queue)
	if want := d.Exchange.Model + " " + strings.TrimSuffix(decisionLine, "}\n") + exchangeMember + "}"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Whatever a provider reports, no counter falls, and none panics.
func TestExchangeCountersNeverFall(t *testing.T) {
	t.Parallel()
	m := NewMetrics("v1")
	for _, n := range []int64{10, -3, math.MinInt64} {
		m.Exchange(&Exchange{Route: "r", Outcome: "o", Held: n, Charged: n, Reported: n, Findings: []Finding{{"c", "a", int(n)}}, FirstEvent: time.Duration(n)})
	}
	got := gather(t, m)
	for name, want := range map[string]float64{
		`gatehouse_tokens_total{kind="held",route="r"}`:     10,
		`gatehouse_tokens_total{kind="charged",route="r"}`:  10,
		`gatehouse_tokens_total{kind="reported",route="r"}`: 10,
		`gatehouse_findings_total{action="a",class="c"}`:    10,
		`gatehouse_exchanges_total{outcome="o",route="r"}`:  3,
		`gatehouse_first_event_seconds{}`:                   1,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	for name := range got {
		if strings.Contains(name, "refus") {
			t.Errorf("%s although nothing was refused", name)
		}
	}
}

func TestExchangeLabelsAreBounded(t *testing.T) {
	t.Parallel()
	m := NewMetrics("v1")
	for i := range maxSeries + 10 {
		name := fmt.Sprint("\xff", i)
		m.Exchange(&Exchange{Route: name, Outcome: "complete", Class: "policy", Findings: []Finding{{name, "flag", 1}}})
		m.Exchange(&Exchange{Route: name, Outcome: "complete", Class: "policy", WouldRefuse: true})
		m.Hold(name)
	}
	families := map[string]int{}
	for name := range gather(t, m) {
		family, _, _ := strings.Cut(name, "{")
		families[family]++
	}
	for family, each := range map[string]int{
		"gatehouse_exchanges_total": 1, "gatehouse_exchange_refusals_total": 1, "gatehouse_exchange_would_refuse_total": 1,
		"gatehouse_tokens_total": 3, "gatehouse_findings_total": 1, "gatehouse_holds_total": 1,
	} {
		if families[family] != (maxSeries+1)*each {
			t.Errorf("%s has %d series, want %d", family, families[family], (maxSeries+1)*each)
		}
	}
	if n := gather(t, m)[`gatehouse_exchanges_total{outcome="other",route="other"}`]; n != 20 {
		t.Errorf("%v exchanges of others, want 20", n)
	}
}

func TestShownGaugesAreReadAtEachScrape(t *testing.T) {
	t.Parallel()
	m := NewMetrics("v1")
	open, ledger := 1, Ledger{Waiting: 2, SpoolBytes: 3}
	m.ShowExchanges(func() int { return open })
	m.ShowLedger(func() Ledger { return ledger })
	for range 2 {
		got := gather(t, m)
		for name, want := range map[string]float64{
			"gatehouse_exchanges_open{}": float64(open), "gatehouse_settlements_waiting{}": float64(ledger.Waiting), "gatehouse_spool_bytes{}": float64(ledger.SpoolBytes),
			"gatehouse_settlements_lost_total{}": float64(ledger.Lost), "gatehouse_settlements_refused_total{}": float64(ledger.Refused),
		} {
			if got[name] != want {
				t.Errorf("%s is %v, want %v", name, got[name], want)
			}
		}
		open, ledger = 7, Ledger{Waiting: 8, SpoolBytes: 9, Lost: 1, Refused: 2}
	}
}

func BenchmarkExchange(b *testing.B) {
	m, x := NewMetrics("v1"), sampleExchange()
	b.ReportAllocs()
	for b.Loop() {
		m.Exchange(x)
	}
}
