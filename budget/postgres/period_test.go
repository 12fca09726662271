package postgres_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gatehouse/budget"
)

const periods = `SELECT starts, ends FROM unnest($1::text[], $2::text[], $3::timestamptz[]) WITH ORDINALITY u(w, zone, at, n)
	CROSS JOIN LATERAL budget_period(u.w, u.zone, u.at) ORDER BY u.n`

// TestPeriodsAreThoseOfTheRules compares the schema's windows with the package's,
// around each change of the clocks too.
func TestPeriodsAreThoseOfTheRules(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var (
		windows, zones []string
		ats            []time.Time
	)
	r := rand.New(rand.NewPCG(1, 2))
	for _, zone := range []string{
		"UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/Havana", "Africa/Cairo",
		"Asia/Beirut", "Pacific/Apia", "America/Sao_Paulo", "Africa/Casablanca", "America/St_Johns",
	} {
		loc, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Date(2005, 1, 1, 0, 0, 0, 0, time.UTC)
		for range 60 {
			_, change := at.In(loc).ZoneBounds()
			if change.IsZero() || change.Year() > 2026 {
				change = at.Add(time.Duration(r.Int64N(int64(90 * 24 * time.Hour))))
			}
			at = change
			for _, off := range []time.Duration{-1, 0, time.Microsecond * time.Duration(r.Int64N(7.2e9)), -time.Microsecond * time.Duration(r.Int64N(7.2e9)), -25 * time.Hour} {
				windows = append(windows, string(budget.Windows()[r.IntN(5)]))
				zones, ats = append(zones, zone), append(ats, at.Add(off).Truncate(time.Microsecond).UTC())
			}
		}
	}
	rows, err := f.pool.Query(t.Context(), periods, windows, zones, ats)
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	var start time.Time
	var end *time.Time
	if _, err := pgx.ForEachRow(rows, []any{&start, &end}, func() error {
		want, err := budget.PeriodOf(budget.Window(windows[i]), zones[i], ats[i])
		if err != nil {
			return err
		}
		got := budget.Period{Start: start.UTC()}
		if end != nil {
			got.End = end.UTC()
		}
		if got != want {
			t.Errorf("%s of %s at %s: the schema says %v, the rules %v", windows[i], zones[i], ats[i], got, want)
		}
		i++
		return nil
	}); err != nil || i != len(ats) {
		t.Errorf("%d of %d periods, %v", i, len(ats), err)
	}
}
