package budget

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func instant(t testing.TB, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestPeriodOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		w          Window
		zone, now  string
		start, end string
	}{
		{"an hour", Hour, "UTC", "2026-06-17T12:30:15Z", "2026-06-17T12:00:00Z", "2026-06-17T13:00:00Z"},
		{"an hour's first instant", Hour, "UTC", "2026-06-17T12:00:00Z", "2026-06-17T12:00:00Z", "2026-06-17T13:00:00Z"},
		{"an hour with half an offset", Hour, "Asia/Kolkata", "2026-06-17T12:40:00Z", "2026-06-17T12:30:00Z", "2026-06-17T13:30:00Z"},
		{"the first 2 o'clock", Hour, "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"},
		{"the second 2 o'clock", Hour, "Europe/Berlin", "2026-10-25T01:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"},
		{"an hour set back by half", Hour, "Australia/Lord_Howe", "2026-04-04T15:10:00Z", "2026-04-04T14:30:00Z", "2026-04-04T15:30:00Z"},
		{"a day", Day, "America/New_York", "2026-06-17T03:59:59Z", "2026-06-16T04:00:00Z", "2026-06-17T04:00:00Z"},
		{"25 hours", Day, "Europe/Berlin", "2026-10-25T22:59:59Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"},
		{"23 hours", Day, "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"},
		{"no midnight", Day, "Africa/Cairo", "2026-04-24T12:00:00Z", "2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"},
		{"two midnights, the first", Day, "America/Havana", "2026-11-01T04:30:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"},
		{"two midnights, the second", Day, "America/Havana", "2026-11-01T05:30:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"},
		{"before two midnights", Day, "America/Havana", "2026-11-01T03:59:59Z", "2026-10-31T04:00:00Z", "2026-11-01T04:00:00Z"},
		// At 00:01 clocks went back to 23:01 of the day before.
		{"yesterday once more", Day, "America/St_Johns", "2009-11-01T03:00:00Z", "2009-11-01T02:30:00Z", "2009-11-02T03:30:00Z"},
		// At 23:30 clocks went on to 00:30 of the next day.
		{"tomorrow's half an hour", Day, "America/Toronto", "1919-03-31T04:40:00Z", "1919-03-30T05:00:00Z", "1919-03-31T05:00:00Z"},
		{"a day that was left out", Day, "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"},
		{"a week from Monday", Week, "UTC", "2026-06-21T23:59:59Z", "2026-06-15T00:00:00Z", "2026-06-22T00:00:00Z"},
		{"a Monday", Week, "UTC", "2026-06-15T00:00:00Z", "2026-06-15T00:00:00Z", "2026-06-22T00:00:00Z"},
		{"a week over a change", Week, "Europe/Berlin", "2026-10-25T22:59:59Z", "2026-10-18T22:00:00Z", "2026-10-25T23:00:00Z"},
		{"a month", Month, "Asia/Tokyo", "2026-02-28T14:59:59Z", "2026-01-31T15:00:00Z", "2026-02-28T15:00:00Z"},
		{"a leap month", Month, "UTC", "2028-02-29T00:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"},
		{"the last month", Month, "UTC", "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"},
	} {
		got, err := PeriodOf(tt.w, tt.zone, instant(t, tt.now))
		want := Period{instant(t, tt.start), instant(t, tt.end)}
		if err != nil || !got.Start.Equal(want.Start) || !got.End.Equal(want.End) {
			t.Errorf("%s: got %v and %v, want %v", tt.name, got, err, want)
		}
	}
}

func TestATotalNeverEnds(t *testing.T) {
	t.Parallel()
	now := instant(t, "2026-06-17T12:30:00Z")
	p, err := PeriodOf(Total, "Europe/Berlin", now)
	if err != nil || p.Start != now || !p.End.IsZero() || p.Over(now.AddDate(1000, 0, 0)) {
		t.Errorf("got %v and %v", p, err)
	}
}

func TestPeriodOfWhatIsNot(t *testing.T) {
	t.Parallel()
	if _, err := PeriodOf("year", "UTC", time.Now()); !errors.Is(err, ErrWindow) {
		t.Errorf("a year: got %v", err)
	}
	for _, zone := range []string{"", "Local", "Mars/Olympus", "../../etc/passwd"} {
		if _, err := PeriodOf(Day, zone, time.Now()); !errors.Is(err, ErrZone) {
			t.Errorf("%q: got %v", zone, err)
		}
	}
}

// TestPeriodsFollowEachOther: each instant is in one period, which is the same
// for all of its instants, and the next begins where it ends.
func TestPeriodsFollowEachOther(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := rapid.SampledFrom([]Window{Day, Week, Month}).Draw(t, "window")
		zone := rapid.SampledFrom([]string{
			"UTC", "Europe/Berlin", "America/Havana", "America/St_Johns", "America/Toronto", "Africa/Cairo", "Pacific/Apia", "Australia/Lord_Howe", "America/Sao_Paulo",
		}).Draw(t, "zone")
		now := time.Unix(rapid.Int64Range(-1_700_000_000, 1_900_000_000).Draw(t, "now"), 0)
		p, err := PeriodOf(w, zone, now)
		if err != nil || now.Before(p.Start) || p.Over(now) {
			t.Fatalf("%s is not in %v, %v", now, p, err)
		}
		inside := p.Start.Add(time.Duration(rapid.Int64Range(0, int64(p.End.Sub(p.Start))-1).Draw(t, "inside")))
		if other, err := PeriodOf(w, zone, inside); err != nil || other != p {
			t.Fatalf("%s is in %v, %v, and in %v", inside, other, err, p)
		}
		if next, err := PeriodOf(w, zone, p.End); err != nil || next.Start != p.End {
			t.Fatalf("behind %v comes %v, %v", p, next, err)
		}
	})
}
