package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestLogger(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := NewLogger(&out, slog.LevelInfo)
	l.Debug("not shown")
	l.Info("started\n", "request_id", "r-1", slog.Group("g", slog.Time("time", time.Unix(0, 0))))
	line := out.String()
	if strings.Count(line, "\n") != 1 {
		t.Fatalf("log %q, want one line", line)
	}
	if !strings.HasPrefix(line, `{"time":"`) || !strings.Contains(line, `Z","level":"INFO","msg":"started\n","request_id":"r-1"`) {
		t.Errorf("log %s, want time in UTC, level, msg, then the rest", line)
	}
	if !json.Valid(out.Bytes()) {
		t.Errorf("log %s is not JSON", line)
	}
}

func TestLoggerFollowsItsLeveler(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	var level slog.LevelVar
	l := NewLogger(&out, &level)
	l.Debug("one")
	level.Set(slog.LevelDebug)
	l.Debug("two")
	if s := out.String(); strings.Contains(s, "one") || !strings.Contains(s, "two") {
		t.Errorf("log %s, want two only", s)
	}
}

func TestLoggerTellsTimeInUTC(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 1, 2, 12, 0, 0, 5000, time.FixedZone("east", 3600))
	var out bytes.Buffer
	l := NewLogger(&out, slog.LevelInfo)
	for _, h := range []slog.Handler{l.Handler(), l.With("a", 1).Handler(), l.WithGroup("g").Handler()} {
		out.Reset()
		if err := h.Handle(t.Context(), slog.NewRecord(noon, slog.LevelInfo, "m", 0)); err != nil {
			t.Fatal(err)
		}
		if want := `{"time":"2026-01-02T11:00:00.000005Z","level":"INFO","msg":"m"`; !strings.HasPrefix(out.String(), want) {
			t.Errorf("log %s, want it to begin with %s", out.String(), want)
		}
	}
}

func BenchmarkLogger(b *testing.B) {
	log := NewLogger(io.Discard, slog.LevelInfo)
	b.ReportAllocs()
	for b.Loop() {
		log.LogAttrs(context.Background(), slog.LevelInfo, "check",
			slog.String("request_id", "r-1"), slog.String("decision_id", "d-1"), slog.String("policy_revision", "abc"), slog.String("route", "tasks"),
			slog.String("method", "GET"), slog.String("path", "/tasks/1"), slog.Bool("allowed", true), slog.String("rule_id", "allow"),
			slog.String("tenant", "org1"), slog.String("subject", "s"), slog.String("role", "developer"), slog.Int64("took_us", 12))
	}
}
