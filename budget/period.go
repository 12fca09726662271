package budget

import "time"

// Period is one turn of a window. The instant Start belongs to it, End does not.
type Period struct {
	Start time.Time
	End   time.Time // zero for never, of a total
}

// Over reports whether the period ended by now.
func (p Period) Over(now time.Time) bool { return !p.End.IsZero() && !now.Before(p.End) }

// PeriodOf returns the period of a window that now is in, by the clocks of a
// zone. A total begins now. Times are UTC; ErrZone or ErrWindow.
//
// Where a zone sets its clocks, a day is the 23 or 25 hours from its first
// midnight to that of the next day. An hour keeps the offset that is in force, so
// that one in which clocks are set by half an hour ends early.
func PeriodOf(w Window, zone string, now time.Time) (Period, error) {
	loc, err := location(zone)
	if err != nil {
		return Period{}, err
	}
	switch w {
	case Total:
		return Period{Start: now.UTC()}, nil
	case Hour:
		return hourOf(loc, now), nil
	case Day, Week, Month:
		return daysOf(w, loc, now), nil
	}
	return Period{}, ErrWindow
}

func hourOf(loc *time.Location, now time.Time) Period {
	t := now.In(loc)
	start := now.Add(-time.Duration(t.Minute())*time.Minute - time.Duration(t.Second())*time.Second - time.Duration(t.Nanosecond()))
	return Period{start.UTC(), start.Add(time.Hour).UTC()}
}

// daysOf is the period of whole days. Clocks that are set back over a midnight
// show the day before once more; such an hour belongs to the new day, and the
// two corrections keep every instant in exactly one period.
func daysOf(w Window, loc *time.Location, now time.Time) Period {
	day := first(w, naive(now.In(loc)))
	if next := step(w, day, 1); !midnight(loc, next).After(now) {
		day = next
	} else if midnight(loc, day).After(now) {
		day = step(w, day, -1)
	}
	return Period{midnight(loc, day), midnight(loc, step(w, day, 1))}
}

// naive is a zone's date as a date of UTC, with which one can count.
func naive(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
}

// first is the first day of the window that has the day.
func first(w Window, day time.Time) time.Time {
	switch w {
	case Week:
		return day.AddDate(0, 0, -(int(day.Weekday())+6)%7) // Monday
	case Month:
		return day.AddDate(0, 0, 1-day.Day())
	}
	return day
}

// step is the first day of the window n windows later.
func step(w Window, day time.Time, n int) time.Time {
	switch w {
	case Week:
		return day.AddDate(0, 0, 7*n)
	case Month:
		return day.AddDate(0, n, 0)
	}
	return day.AddDate(0, 0, n)
}

// midnight is the first instant at which a zone's clocks show midnight of a day,
// or, where they skip it, the instant at which the offset before says so.
// time.Date leaves open which of the two it returns.
func midnight(loc *time.Location, day time.Time) time.Time {
	guess := time.Date(day.Year(), day.Month(), day.Day(), 0, 0, 0, 0, loc)
	early := day.Add(-offset(guess.Add(-24*time.Hour), loc))
	if late := day.Add(-offset(guess.Add(24*time.Hour), loc)); !shows(early, loc, day) && shows(late, loc, day) {
		return late
	}
	return early
}

// offset is how far a zone is ahead of UTC.
func offset(t time.Time, loc *time.Location) time.Duration {
	_, seconds := t.In(loc).Zone()
	return time.Duration(seconds) * time.Second
}

// shows reports whether a zone's clocks show the start of a day at t.
func shows(t time.Time, loc *time.Location, day time.Time) bool {
	return t.Add(offset(t, loc)).Equal(day)
}
