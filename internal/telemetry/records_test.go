package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/request"
)

var recordTime = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("x", 3600))

func sampleDecision() Decision {
	return Decision{
		Time: recordTime, DecisionID: "d-1", RequestID: "r-1", Revision: "abc", Route: "tasks", Listener: "inbound",
		Method: "GET", Path: "/tasks", Permission: "task.view", Mode: "enforce", Class: "policy",
		Principal: request.Principal{
			Kind: request.KindToken, Issuer: "control", Subject: "s", Tenant: "org1", Project: "proj1", Agent: "a",
			Run: "run", Role: request.RoleObserver, TokenID: "jti-secret", Expires: recordTime,
		},
		ErrorCode: "auth.forbidden", RuleID: "role_lacks_permission", Reason: "no\n\x1b[31m", Limits: []string{"per-principal"},
		Latency: 1500 * time.Microsecond,
	}
}

func sampleOutcome() Outcome {
	return Outcome{
		Time: recordTime, DecisionID: "d-1", RequestID: "r-1", Revision: "abc", Route: "tasks", Status: 503,
		ResponseFlags: "UF", CodeDetailsClass: "upstream_reset_before_response_started", UpstreamReached: true,
		UpstreamBytesSent: 1 << 63, Bytes: 7, Duration: 2 * time.Millisecond,
	}
}

const decisionLine = `{"kind":"decision","time":"2026-01-02T02:04:05.000006Z","decision_id":"d-1","request_id":"r-1","revision":"abc",` +
	`"route":"tasks","listener":"inbound","method":"GET","path":"/tasks","principal":{"kind":"token","issuer":"control","subject":"s",` +
	`"tenant":"org1","project":"proj1","agent":"a","role":"observer"},"permission":"task.view","allowed":false,"would_deny":false,` +
	`"mode":"enforce","class":"policy","error_code":"auth.forbidden","rule_id":"role_lacks_permission","reason":"no\n\u001b[31m",` +
	`"limits":["per-principal"],"latency_us":1500}` + "\n"

const outcomeLine = `{"kind":"outcome","time":"2026-01-02T02:04:05.000006Z","decision_id":"d-1","request_id":"r-1","revision":"abc",` +
	`"route":"tasks","status":503,"response_flags":"UF","code_details_class":"upstream_reset_before_response_started",` +
	`"upstream_reached":true,"upstream_bytes_sent":9223372036854775808,"bytes":7,"duration_us":2000}` + "\n"

func TestRecordLines(t *testing.T) {
	t.Parallel()
	d, o := sampleDecision(), sampleOutcome()
	if diff := cmp.Diff(decisionLine, string(d.appendJSON(nil))); diff != "" {
		t.Errorf("decision (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(outcomeLine, string(o.appendJSON(nil))); diff != "" {
		t.Errorf("outcome (-want +got):\n%s", diff)
	}
}

func TestRecordsAreBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ü", 100_000)
	d := Decision{
		DecisionID: long, RequestID: long, Revision: long, Route: long, Listener: long, Method: long, Path: long,
		Permission: long, Mode: long, Class: long, ErrorCode: long, RuleID: long, Reason: long,
		Principal: request.Principal{Kind: request.Kind(long), Issuer: long, Subject: long, Tenant: long, Project: long, Agent: long, Role: request.Role(long)},
		Limits:    make([]string, 1000),
		Latency:   -1,
		Exchange:  &Exchange{Outcome: long, CheckID: long, Model: long, Settled: long, FirstEvent: -1, Findings: make([]Finding, 1000)},
	}
	for i := range d.Limits {
		d.Limits[i] = long
		d.Exchange.Findings[i] = Finding{Class: long, Action: long, Count: math.MinInt}
	}
	line := d.appendJSON(nil)
	if len(line) > 20<<10 || !json.Valid(line) || !utf8.Valid(line) {
		t.Errorf("a record of %d bytes, valid JSON %v, want at most 20 KiB and valid", len(line), json.Valid(line))
	}
	var got struct {
		Limits  []string `json:"limits"`
		Path    string   `json:"path"`
		Latency int64    `json:"latency_us"`
	}
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatalf("record: %v", err)
	}
	if len(got.Limits) != maxLimits || len(got.Path) > maxPath || !strings.HasSuffix(got.Path, "ü…") || got.Latency != 0 {
		t.Errorf("%d limits, path of %d bytes, latency %d", len(got.Limits), len(got.Path), got.Latency)
	}
}

// A record that waits holds no part of the message that it was made of, whatever
// field came from there, and no more than it will write.
func TestRecordsKeepNoMessage(t *testing.T) {
	t.Parallel()
	r := NewRecords("unused", NewMetrics("v1"))
	long := strings.Repeat("x", 4096)
	for _, size := range []int{7, len(long)} {
		d := Decision{Limits: []string{"per-principal"}, Exchange: &Exchange{Findings: []Finding{{Class: "sql"}}}}
		texts := textsOf(reflect.ValueOf(&d).Elem())
		for _, v := range texts {
			v.SetString(long[:size])
		}
		r.Decision(d)
		kept := (<-r.queue).decision
		if d.Exchange.Model != long[:size] {
			t.Error("what the caller has was changed")
		}
		total := 0
		for _, v := range textsOf(reflect.ValueOf(kept).Elem()) {
			total += v.Len()
			if within(v.String(), long) {
				t.Errorf("texts of %d bytes: a part of the message is kept", size)
			}
		}
		if len(texts) < 26 || total > maxPath+maxReason+len(texts)*maxText {
			t.Errorf("%d texts of %d bytes: %d bytes are kept", len(texts), size, total)
		}
		if kept.Principal.TokenID != "" || kept.Principal.Run != "" {
			t.Errorf("kept although no record has it: %+v", kept.Principal)
		}
	}
}

// textsOf are the string fields of a struct and of the structs in it.
func textsOf(v reflect.Value) []reflect.Value {
	var out []reflect.Value
	for _, field := range v.Fields() {
		switch f := field; {
		case f.Kind() == reflect.String:
			out = append(out, f)
		case f.Type() == reflect.TypeFor[request.Principal]():
			out = append(out, textsOf(f)...)
		case f.Type() == reflect.TypeFor[*Exchange]():
			out = append(out, textsOf(f.Elem())...)
		}
	}
	return out
}

// within reports whether a string's bytes lie inside those of another.
func within(s, whole string) bool {
	at, start := uintptr(unsafe.Pointer(unsafe.StringData(s))), uintptr(unsafe.Pointer(unsafe.StringData(whole)))
	return len(s) > 0 && at >= start && at < start+uintptr(len(whole))
}

func FuzzRecordLine(f *testing.F) {
	f.Add("/a", "x\x00\xff", int64(1))
	f.Fuzz(func(t *testing.T, path, text string, n int64) {
		d := Decision{Path: path, Reason: text, Limits: []string{text}, Latency: time.Duration(n)}
		d.Exchange = &Exchange{Model: text, Held: n, Reported: -n, Findings: []Finding{{Class: text, Action: path, Count: int(n)}}}
		d.own()
		o := Outcome{RequestID: text, Status: int(n), Bytes: uint64(n), Duration: time.Duration(n)}
		for _, line := range [][]byte{d.appendJSON(nil), o.appendJSON(nil)} {
			if !json.Valid(line) || strings.Count(string(line), "\n") != 1 {
				t.Errorf("line %q is not one line of JSON", line)
			}
		}
	})
}

func startRecords(t *testing.T, maxFile int64) (*Records, *Metrics, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "decisions.jsonl")
	m := NewMetrics("v1")
	r := NewRecords(path, m)
	r.maxFile = maxFile
	if err := r.Start(); err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() { stopRecords(t, r) })
	return r, m, path
}

func stopRecords(t *testing.T, r *Records) {
	t.Helper()
	if err := r.Stop(context.Background()); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return string(b)
}

func counted(t *testing.T, m *Metrics, result string) float64 {
	t.Helper()
	return gather(t, m)[fmt.Sprintf("gatehouse_decision_records_total{result=%q}", result)]
}

func TestStopWritesWhatWaits(t *testing.T) {
	t.Parallel()
	r, m, path := startRecords(t, recordFile)
	for range 500 {
		r.Decision(sampleDecision())
		r.Outcome(sampleOutcome())
	}
	stopRecords(t, r)
	if got, want := readFile(t, path), strings.Repeat(decisionLine+outcomeLine, 500); got != want {
		t.Errorf("%d bytes in the file, want %d", len(got), len(want))
	}
	if n := counted(t, m, ResultWritten); n != 1000 {
		t.Errorf("%v written, want 1000", n)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v), want 0600", info.Mode(), err)
	}
	r.Outcome(sampleOutcome())
	if n := counted(t, m, ResultDropped); n != 1 {
		t.Errorf("%v dropped after stop, want 1", n)
	}
}

func TestFullQueueDrops(t *testing.T) {
	t.Parallel()
	m := NewMetrics("v1")
	r := NewRecords(filepath.Join(t.TempDir(), "d"), m)
	for range recordQueue + 5 {
		r.Outcome(sampleOutcome()) // the writer is not started
	}
	if n := counted(t, m, ResultDropped); n != 5 {
		t.Errorf("%v dropped, want 5", n)
	}
	if err := r.Start(); err != nil {
		t.Fatalf("start: %v", err)
	}
	stopRecords(t, r)
	if n := counted(t, m, ResultWritten); n != recordQueue {
		t.Errorf("%v written, want %d", n, recordQueue)
	}
}

func TestAnonymousDenialsAreCappedPerRuleAndMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := NewMetrics("v1")
		r := NewRecords("unused", m)
		anonymous := Decision{Principal: request.Anonymous(), RuleID: "missing_token"}
		record := func(d Decision, n int) (suppressed float64) {
			before := counted(t, m, ResultSuppressed)
			for range n {
				r.Decision(d)
			}
			return counted(t, m, ResultSuppressed) - before
		}
		if n := record(anonymous, deniedPerMinute+7); n != 7 {
			t.Errorf("%v suppressed, want 7", n)
		}
		other, observed, named, allowed := anonymous, anonymous, anonymous, anonymous
		other.RuleID = "other"
		observed.Allowed, observed.WouldDeny = true, true
		named.Principal = request.Principal{Kind: request.KindToken}
		allowed.Allowed = true
		for name, tc := range map[string]struct {
			d    Decision
			want float64
		}{
			"another rule": {other, 0}, "observed": {observed, 3}, "with a token": {named, 0}, "allowed": {allowed, 0},
		} {
			if n := record(tc.d, 3); n != tc.want {
				t.Errorf("%s: %v suppressed, want %v", name, n, tc.want)
			}
		}
		<-time.After(time.Minute)
		if n := record(anonymous, deniedPerMinute+1); n != 1 {
			t.Errorf("%v suppressed in the next minute, want 1", n)
		}
	})
}

func TestOutcomesOfDenialsAreCapped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := NewMetrics("v1")
		r := NewRecords("unused", m)
		for range deniedPerMinute + 2 {
			r.Outcome(Outcome{CodeDetailsClass: deniedByCheck})
			r.Outcome(Outcome{CodeDetailsClass: "via_upstream"})
		}
		if n := counted(t, m, ResultSuppressed); n != 2 {
			t.Errorf("%v suppressed, want 2", n)
		}
		if n := len(r.queue); n != 2*deniedPerMinute+2 {
			t.Errorf("%d wait, want %d: all others", n, 2*deniedPerMinute+2)
		}
	})
}

func TestDenialCapSharesOneCountBeyondItsRules(t *testing.T) {
	t.Parallel()
	c := denialCap{rules: make(map[string]int)}
	for i := range deniedRules {
		if !c.admit(0, fmt.Sprint(i)) {
			t.Fatalf("rule %d refused at once", i)
		}
	}
	admitted := 0
	for i := range 3 * deniedPerMinute {
		if c.admit(0, fmt.Sprint("new", i)) {
			admitted++
		}
	}
	if admitted != deniedPerMinute || len(c.rules) != deniedRules+1 {
		t.Errorf("%d admitted, %d rules kept, want %d and %d", admitted, len(c.rules), deniedPerMinute, deniedRules+1)
	}
}

func TestRecordsLifecycle(t *testing.T) {
	t.Parallel()
	m := NewMetrics("v1")
	r := NewRecords(filepath.Join(t.TempDir(), "d"), m)
	stopRecords(t, r)
	if err := r.Start(); err == nil {
		t.Error("started after stop")
	}
	r, _, _ = startRecords(t, recordFile)
	if err := r.Start(); err == nil {
		t.Error("started twice")
	}
	stopRecords(t, r)
	if err := NewRecords(filepath.Join(t.TempDir(), "no", "dir"), m).Start(); err == nil {
		t.Error("started without a directory")
	}
}

func TestStopGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	r := NewRecords("unused", NewMetrics("v1"))
	r.started = true // a writer that never ends
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("stop: %v, want canceled", err)
	}
}

func TestDiskErrorDropsAndIsCounted(t *testing.T) {
	t.Parallel()
	m := NewMetrics("v1")
	r := NewRecords(filepath.Join(t.TempDir(), "d"), m)
	f, err := openRecordFile(r.path, r.maxFile)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	if err := f.file.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	o := sampleOutcome()
	r.enqueue(record{outcome: &o})
	r.writeBatch(f, record{outcome: &o}, nil)
	if n := counted(t, m, ResultDropped); n != 2 || !f.torn {
		t.Errorf("%v dropped, torn %v, want 2 and true", n, f.torn)
	}
}

func BenchmarkDecisionLine(b *testing.B) {
	b.ReportAllocs()
	d := sampleDecision()
	var buf []byte
	for b.Loop() {
		buf = d.appendJSON(buf[:0])
	}
}

func BenchmarkRecord(b *testing.B) {
	b.ReportAllocs()
	r := NewRecords(filepath.Join(b.TempDir(), "d"), NewMetrics("v1"))
	if err := r.Start(); err != nil {
		b.Fatal(err)
	}
	d := sampleDecision()
	for b.Loop() {
		r.Decision(d)
	}
	if err := r.Stop(context.Background()); err != nil {
		b.Fatal(err)
	}
}
