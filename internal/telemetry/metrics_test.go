package telemetry

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
)

// gather reads all series of our own as name{label="value",…} → value;
// histograms give their count.
func gather(t *testing.T, m *Metrics) map[string]float64 {
	t.Helper()
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatalf("gather: %v", err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, s := range f.GetMetric() {
			if strings.HasPrefix(f.GetName(), "gatehouse_") {
				got[seriesName(f.GetName(), s)] = value(s)
			}
		}
	}
	return got
}

func seriesName(name string, s *dto.Metric) string {
	var labels []string
	for _, l := range s.GetLabel() {
		labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
	}
	return name + "{" + strings.Join(labels, ",") + "}"
}

func value(s *dto.Metric) float64 {
	return s.GetCounter().GetValue() + s.GetGauge().GetValue() + float64(s.GetHistogram().GetSampleCount())
}

// touchAll gives every metric a series.
func touchAll(m *Metrics) {
	m.Check(Check{Route: "tasks", Class: "policy", Mode: "observe", Allowed: true, WouldDeny: true}, time.Millisecond)
	m.Check(Check{Route: "tasks", Mode: "enforce", Allowed: true}, time.Millisecond)
	m.Check(Check{Route: "tasks", Class: "policy", Mode: "enforce"}, time.Millisecond)
	m.TokenVerified("ok")
	m.PolicyDecided("allow", true)
	m.RateLimited("per-principal")
	m.Request(Request{Route: "tasks", Status: 503, Flags: "UF,URX", UpstreamReached: true})
	m.Unrouted()
	m.AccessLogEntry(ResultOK)
	m.RevisionLoaded(nil)
	m.Revisions("abc")
	m.Nack("cluster")
	m.RetiredClusters(3)
	m.countRecord(ResultWritten, 2)
	m.Exchange(sampleExchange())
	m.Exchange(&Exchange{Route: "chat", Outcome: "complete", Class: "model", WouldRefuse: true, Held: 1})
	m.Hold(HoldGranted)
	m.ShowExchanges(func() int { return 4 })
	m.ShowLedger(func() Ledger { return Ledger{Waiting: 5, SpoolBytes: 1 << 20, Lost: 6, Refused: 7, Alarm: true} })
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	m := NewMetrics("v1")
	touchAll(m)
	want := map[string]float64{
		`gatehouse_checks_total{class="policy",decision="allow",mode="observe",route="tasks"}`: 1,
		`gatehouse_checks_total{class="",decision="allow",mode="enforce",route="tasks"}`:       1,
		`gatehouse_checks_total{class="policy",decision="deny",mode="enforce",route="tasks"}`:  1,
		`gatehouse_check_would_deny_total{class="policy",route="tasks"}`:                       1,
		`gatehouse_check_duration_seconds{}`:                                                   3,
		`gatehouse_token_verifications_total{result="ok"}`:                                     1,
		`gatehouse_policy_decisions_total{cached="true",result="allow"}`:                       1,
		`gatehouse_rate_limited_total{rule="per-principal"}`:                                   1,
		`gatehouse_requests_total{code_class="5xx",flags="UF,URX",route="tasks"}`:              1,
		`gatehouse_upstream_reached_total{route="tasks"}`:                                      1,
		`gatehouse_unrouted_total{}`:                                                           1,
		`gatehouse_access_log_entries_total{result="ok"}`:                                      1,
		`gatehouse_revision_loads_total{result="ok"}`:                                          1,
		`gatehouse_revision_info{revision="abc"}`:                                              1,
		`gatehouse_config_stale{}`:                                                             0,
		`gatehouse_nacks_total{type="cluster"}`:                                                1,
		`gatehouse_retired_clusters{}`:                                                         3,
		`gatehouse_decision_records_total{result="written"}`:                                   2,
		`gatehouse_exchanges_total{outcome="cut",route="chat"}`:                                1,
		`gatehouse_exchanges_total{outcome="complete",route="chat"}`:                           1,
		`gatehouse_exchange_refusals_total{class="answer",route="chat"}`:                       1,
		`gatehouse_exchange_would_refuse_total{class="model",route="chat"}`:                    1,
		`gatehouse_tokens_total{kind="held",route="chat"}`:                                     5001,
		`gatehouse_tokens_total{kind="charged",route="chat"}`:                                  70,
		`gatehouse_tokens_total{kind="reported",route="chat"}`:                                 60,
		`gatehouse_findings_total{action="redact",class="sql"}`:                                2,
		`gatehouse_findings_total{action="block",class="html"}`:                                1,
		`gatehouse_holds_total{result="granted"}`:                                              1,
		`gatehouse_first_event_seconds{}`:                                                      1,
		`gatehouse_exchanges_open{}`:                                                           4,
		`gatehouse_settlements_waiting{}`:                                                      5,
		`gatehouse_spool_bytes{}`:                                                              1 << 20,
		`gatehouse_settlements_lost_total{}`:                                                   6,
		`gatehouse_settlements_refused_total{}`:                                                7,
		`gatehouse_ledger_alarm{}`:                                                             1,
	}
	got := gather(t, m)
	maps.DeleteFunc(got, func(k string, _ float64) bool { return strings.HasPrefix(k, "gatehouse_build_info{") })
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("metrics (-want +got):\n%s", d)
	}
}

func TestMetricNamesPassTheLinter(t *testing.T) {
	t.Parallel()
	m := NewMetrics("v1")
	touchAll(m)
	m.KeySet("control", time.Now())
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatalf("gather: %v", err)
	}
	families = slices.DeleteFunc(families, func(f *dto.MetricFamily) bool { return !strings.HasPrefix(f.GetName(), "gatehouse_") })
	if len(families) < 27 {
		t.Errorf("%d metrics linted, want all 27 or more", len(families))
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatalf("lint: %v", err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestCheckDurationIsClassicAndNative(t *testing.T) {
	t.Parallel()
	m := NewMetrics("v1")
	touchAll(m)
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatalf("gather: %v", err)
	}
	for _, f := range families {
		if f.GetName() != "gatehouse_check_duration_seconds" {
			continue
		}
		h := f.GetMetric()[0].GetHistogram()
		if len(h.GetBucket()) == 0 || len(h.GetPositiveSpan()) == 0 {
			t.Errorf("%d classic buckets, %d native spans, want both", len(h.GetBucket()), len(h.GetPositiveSpan()))
		}
		return
	}
	t.Error("there is no gatehouse_check_duration_seconds")
}

func TestStaleFromAFailedLoadToTheNextGoodOne(t *testing.T) {
	t.Parallel()
	m := NewMetrics("v1")
	for i, tc := range []struct {
		err  error
		want float64
	}{{nil, 0}, {errors.New("bad"), 1}, {errors.New("bad"), 1}, {nil, 0}} {
		m.RevisionLoaded(tc.err)
		if got := gather(t, m)["gatehouse_config_stale{}"]; got != tc.want {
			t.Errorf("load %d: stale %v, want %v", i, got, tc.want)
		}
	}
	if got := gather(t, m)[`gatehouse_revision_loads_total{result="failed"}`]; got != 2 {
		t.Errorf("%v failed loads, want 2", got)
	}
}

func TestRevisionsForgetsOthers(t *testing.T) {
	t.Parallel()
	m := NewMetrics("v1")
	m.Revisions("a", "b")
	m.Revisions("b", "c")
	got := gather(t, m)
	for id, want := range map[string]bool{"a": false, "b": true, "c": true} {
		if _, ok := got[fmt.Sprintf("gatehouse_revision_info{revision=%q}", id)]; ok != want {
			t.Errorf("revision %s shown: %v, want %v", id, ok, want)
		}
	}
}

func TestKeySetAgeGrowsByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := NewMetrics("v1")
		m.KeySet("control", time.Now())
		<-time.After(90 * time.Second)
		const name = `gatehouse_key_set_age_seconds{issuer="control"}`
		if got := gather(t, m)[name]; got != 90 {
			t.Errorf("age %v, want 90", got)
		}
		m.KeySet("control", time.Now().Add(time.Hour))
		if got := gather(t, m)[name]; got != 0 {
			t.Errorf("age %v of keys fetched in the future, want 0", got)
		}
		m.ForgetKeySet("control")
		if _, ok := gather(t, m)[name]; ok {
			t.Error("a forgotten issuer is shown")
		}
	})
}

func TestLabelSetsAreBounded(t *testing.T) {
	t.Parallel()
	m := NewMetrics("v1")
	const extra = 100
	for i := range maxSeries + extra {
		id := fmt.Sprint(i)
		m.RateLimited(id)
		m.KeySet(id, time.Now())
	}
	m.RateLimited("0")
	got := gather(t, m)
	if n := got[`gatehouse_rate_limited_total{rule="other"}`]; n != extra {
		t.Errorf("%v counted as other, want %d", n, extra)
	}
	if n := got[`gatehouse_rate_limited_total{rule="0"}`]; n != 2 {
		t.Errorf("%v counted for a known rule, want 2", n)
	}
	count := func(prefix string) (n int) {
		for k := range got {
			if strings.HasPrefix(k, prefix) {
				n++
			}
		}
		return n
	}
	if n := count("gatehouse_rate_limited_total"); n != maxSeries+1 {
		t.Errorf("%d series of rate limits, want %d", n, maxSeries+1)
	}
	if n := count("gatehouse_key_set_age_seconds"); n != maxSeries {
		t.Errorf("%d issuers, want %d", n, maxSeries)
	}
}

func TestLabelsOfInvalidUTF8(t *testing.T) {
	t.Parallel()
	m := NewMetrics("\xff")
	m.Request(Request{Route: "\xff", Status: 200, Flags: "\xff"})
	m.Check(Check{Route: "\xff"}, 0)
	m.KeySet("\xff", time.Now())
	m.Revisions("\xff")
	if got := gather(t, m)["gatehouse_requests_total{code_class=\"2xx\",flags=\"\ufffd\",route=\"\ufffd\"}"]; got != 1 {
		t.Errorf("%v counted, want 1", got)
	}
}

func TestCodeClass(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]string{
		0: "none", 100: "1xx", 200: "2xx", 399: "3xx", 404: "4xx", 599: "5xx", 99: other, 600: other, -1: other,
	} {
		if got := codeClass(status); got != want {
			t.Errorf("status %d: %s, want %s", status, got, want)
		}
	}
}

func TestConcurrentCounting(t *testing.T) {
	t.Parallel()
	m := NewMetrics("v1")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 200 {
				m.RateLimited(fmt.Sprint(i % 50))
			}
		})
	}
	wg.Wait()
	var sum float64
	for _, v := range gather(t, m) {
		sum += v
	}
	if sum -= 1; sum != 1600 { // the build's 1
		t.Errorf("%v counted, want 1600", sum)
	}
}

func TestKnownLabelsAllocateNothing(t *testing.T) {
	m := NewMetrics("v1")
	touchAll(m)
	n := testing.AllocsPerRun(100, func() {
		m.Check(Check{Route: "tasks", Mode: "enforce", Allowed: true}, time.Millisecond)
		m.Request(Request{Route: "tasks", Status: 503, Flags: "UF,URX", UpstreamReached: true})
	})
	if n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkCheck(b *testing.B) {
	b.ReportAllocs()
	m := NewMetrics("v1")
	for b.Loop() {
		m.Check(Check{Route: "tasks", Mode: "enforce", Allowed: true}, time.Millisecond)
	}
}
