package telemetry

import (
	"bytes"
	"encoding/json"
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
