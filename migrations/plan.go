package migrations

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// What a database can have against a set. They are wrapped with the details.
var (
	// ErrChanged is a file that is not what was applied.
	ErrChanged = errors.New("changed after it was applied")
	// ErrOutOfOrder is a file that was not applied though a later one was.
	ErrOutOfOrder = errors.New("comes before one that was applied already")
	// ErrUnknown is an applied version without a file: a newer build's.
	ErrUnknown = errors.New("was applied, but is unknown to this build, which is older than the database")
	// ErrPending is a file that was not applied yet.
	ErrPending = errors.New("not applied")
)

// State is where one version stands.
type State string

// The states.
const (
	StateApplied    State = "applied"
	StatePending    State = "pending"
	StateChanged    State = "changed"
	StateOutOfOrder State = "out of order"
	StateUnknown    State = "unknown"
)

// Entry is one version, of the set or of the database.
type Entry struct {
	Version  string
	Name     string // of the file; "" where there is none
	State    State
	Checksum string // of the file; "" where there is none

	// Of its row in schema_migrations; zero where it was not applied.
	AppliedChecksum string
	AppliedAt       time.Time
	Duration        time.Duration
}

// fault is what is wrong with an entry, or nil. To be pending is nothing wrong.
func (e Entry) fault() error {
	switch e.State {
	case StateChanged:
		return fmt.Errorf("%s: %w: SHA-256 was %s, is %s; restore the file, and make the change in a new one", e.Name, ErrChanged, e.AppliedChecksum, e.Checksum)
	case StateOutOfOrder:
		return fmt.Errorf("%s: %w; give it the next free number", e.Name, ErrOutOfOrder)
	case StateUnknown:
		return fmt.Errorf("version %s: %w; use the newer build", e.Version, ErrUnknown)
	}
	return nil
}

// applied is one row of schema_migrations.
type applied struct {
	version, checksum string
	at                time.Time
	duration          time.Duration
}

// compare puts the set and the rows side by side, in order of versions.
func compare(set Set, rows []applied) []Entry {
	known := map[string]applied{}
	newest := ""
	for _, a := range rows {
		known[a.version] = a
		newest = max(newest, a.version)
	}
	entries := make([]Entry, 0, len(set))
	for _, m := range set {
		a, found := known[m.Version]
		delete(known, m.Version)
		e := Entry{m.Version, m.Name, StateApplied, m.Checksum, a.checksum, a.at, a.duration}
		switch {
		case found && a.checksum != m.Checksum:
			e.State = StateChanged
		case !found && m.Version < newest:
			e.State = StateOutOfOrder
		case !found:
			e.State = StatePending
		}
		entries = append(entries, e)
	}
	for _, a := range known {
		entries = append(entries, Entry{a.version, "", StateUnknown, "", a.checksum, a.at, a.duration})
	}
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Version, b.Version) })
	return entries
}

// faults joins all that is wrong.
func faults(entries []Entry) error {
	var errs []error
	for _, e := range entries {
		errs = append(errs, e.fault())
	}
	return errors.Join(errs...)
}

// pending are the files still to apply, in order.
func pending(set Set, entries []Entry) Set {
	waiting := map[string]bool{}
	for _, e := range entries {
		waiting[e.Version] = e.State == StatePending
	}
	return slices.DeleteFunc(slices.Clone(set), func(m Migration) bool { return !waiting[m.Version] })
}
