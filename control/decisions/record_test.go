package decisions

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"gatehouse/internal/mesh"
	"gatehouse/internal/pgtest"
)

const sample = `{"kind":"decision","time":"2026-03-01T12:00:00.000000001Z","decision_id":"7QYOBD5FZOXTMVYBYZ3GJDUW5E","request_id":"5b0f0a52-8b4d-4a0e-9c6f-4f6f0d1f8c11",` +
	`"revision":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","route":"tasks","listener":"inbound","method":"GET","path":"/api/v1/tasks/17",` +
	`"principal":{"kind":"token","issuer":"control","subject":"ada","tenant":"org1","project":"proj1","agent":"","role":"developer"},"permission":"task.view",` +
	`"allowed":true,"would_deny":false,"mode":"enforce","class":"","error_code":"","rule_id":"","reason":"","limits":["per_user"],"latency_us":141}` + "\n"

// FuzzParse holds what is accepted against what Postgres makes of it: it takes
// it, and what it writes is no longer than what was measured.
func FuzzParse(f *testing.F) {
	pool := pgtest.New(f)
	minimal := `{"kind":"decision","time":"2026-03-01T12:00:00Z","decision_id":"x","allowed":false,"x":`
	f.Add([]byte(sample))
	for _, x := range []string{
		`-0`, `0.10`, `12345678901234567890123456789012`, `1e2`, `"\u0000"`, `"\\u0000"`, `"\ud83d\ude00"`, `"\ud800"`, `"\/\b\f\u001f\u007f"`,
		`[[],{},[{"a":[1,2 , 3]}]]`, `{"a":1,"a":2}`, `null`, "\"\u2028<>&\"", `true} {`, strings.Repeat(`[`, 15) + strings.Repeat(`]`, 15),
	} {
		f.Add([]byte(minimal + x + "}"))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := parse(line)
		if err != nil {
			return
		}
		if again, err := normalize(r.text); err != nil || !bytes.Equal(again, r.text) {
			t.Errorf("%q is not normal: %q, %v", r.text, again, err)
		}
		if len(r.text) > mesh.MaxRecordBytes || !utf8.Valid(r.text) || len(r.DecisionID) > maxID {
			t.Errorf("%q is accepted", r.text)
		}
		written := 0
		if err := pool.QueryRow(t.Context(), `SELECT octet_length($1::text::jsonb::text)`, string(r.text)).Scan(&written); err != nil || written > len(r.text) {
			t.Errorf("Postgres writes %d bytes of %q (%v), %d were measured", written, r.text, err, len(r.text))
		}
	})
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parse([]byte(sample)); err != nil {
			b.Fatal(err)
		}
	}
}
