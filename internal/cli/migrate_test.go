package cli

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"gatehouse/internal/pgtest"
)

// wantStdout checks that stdout has lines of some forms, in order, and no more.
func (r result) wantStdout(t *testing.T, forms ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
	if len(lines) != len(forms) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(forms), r.stdout)
	}
	for i, form := range forms {
		if !regexp.MustCompile("^" + form + "$").MatchString(lines[i]) {
			t.Errorf("line %q, want the form %s", lines[i], form)
		}
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	migrate := func(verb string) result { t.Helper(); return run(t, "migrate", verb, "--database", url) }

	r := migrate("status")
	r.want(t, ExitOK)
	r.wantStdout(t, `VERSION  FILE +STATE +APPLIED AT +DURATION`, `001 +001_core_schema\.sql +pending +- +-`,
		`002 .* pending .*`, `003 .* pending .*`, `004 .* pending .*`, `005 .* pending .*`, `006 .* pending .*`, `007 .* pending .*`)
	migrate("verify").want(t, ExitFindings, "001_core_schema.sql: not applied", "004_control.sql", "gatehouse migrate up")

	r = migrate("up")
	r.want(t, ExitOK, "migration applied")
	r.wantStdout(t, `VERSION  FILE +DURATION`, `001 +001_core_schema\.sql +\d+ms`, `002 .*ms`, `003 .*ms`, `004 .*ms`, `005 .*ms`, `006 .*ms`, `007 .*ms`)
	r = migrate("up")
	r.want(t, ExitOK)
	r.wantStdout(t, `nothing to do: the database is at version 007`)

	r = migrate("verify")
	r.want(t, ExitOK)
	r.wantStdout(t, `ok: 7 migrations applied`)
	r = migrate("status")
	r.want(t, ExitOK)
	applied := ` +applied +\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ +\d+m?s`
	r.wantStdout(t, `VERSION .*`, `001 +001_core_schema\.sql`+applied, `002 .*`+applied, `003 .*`+applied, `004 .*`+applied, `005 .*`+applied, `006 .*`+applied, `007 .*`+applied)
}

func TestMigrateSaysWhatDiffers(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	conn, err := pgx.Connect(t.Context(), url)
	noError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), `UPDATE schema_migrations SET checksum = 'other' WHERE version = '002'; INSERT INTO schema_migrations (version, checksum) VALUES ('099', 'x')`)
	noError(t, err)
	for _, verb := range []string{"up", "verify"} {
		run(t, "migrate", verb, "--database", url).want(t, ExitFindings, "002_circuit_breaker.sql: changed", "was other, is ", "version 099", "unknown to this build")
	}
	r := run(t, "migrate", "status", "--database", url)
	r.want(t, ExitOK)
	r.wantStdout(t, `VERSION .*`, `001 .*`, `002 .* changed .*`, `003 .*`, `004 .*`, `005 .*`, `006 .*`, `007 .*`, `099 +- +unknown .*`)
}

func TestMigrateFindsItsDatabase(t *testing.T) {
	t.Setenv(databaseVariable, "")
	for _, verb := range []string{"up", "status", "verify"} {
		run(t, "migrate", verb).want(t, ExitUsage, "DATABASE_URL", "--database")
	}
	t.Setenv(databaseVariable, pgtest.URL(t))
	run(t, "migrate", "verify").want(t, ExitOK)
	const elsewhere = "postgres://u:se-cret@127.0.0.1:1/d"
	for _, verb := range []string{"up", "status", "verify"} { // the flag wins
		r := run(t, "migrate", verb, "--database", elsewhere)
		r.want(t, ExitFindings, "connecting to the database")
		if strings.Contains(r.stdout+r.stderr, "se-cret") {
			t.Errorf("%s prints the password:\n%s", verb, r.stderr)
		}
	}
	if r := run(t, "migrate", "--help"); strings.Contains(r.stdout, "gatehouse:") || !strings.Contains(r.stdout, "verify") {
		t.Errorf("help shows the environment's URL, or no verify:\n%s", r.stdout)
	}
}
