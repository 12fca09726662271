package migrations

import (
	"context"
	"errors"
	"fmt"
)

// Status says where each shipped or applied version stands; see Set.Status.
func Status(ctx context.Context, url string) ([]Entry, error) {
	set, err := Shipped()
	if err != nil {
		return nil, err
	}
	return set.Status(ctx, url)
}

// Status says where each version stands, of the set and of the database, in
// order. It changes nothing, and waits for no runner.
func (s Set) Status(ctx context.Context, url string) ([]Entry, error) {
	conn, err := connect(ctx, url)
	if err != nil {
		return nil, err
	}
	defer hangUp(ctx, conn)
	rows, err := history(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("reading schema_migrations: %w", err)
	}
	return compare(s, rows), nil
}

// Verify is nil where the database has exactly the shipped schema.
func Verify(ctx context.Context, url string) error {
	set, err := Shipped()
	if err != nil {
		return err
	}
	return set.Verify(ctx, url)
}

// Verify is nil where all files of the set are applied as they are, and no
// others. Its error joins all that differs, ErrPending included.
func (s Set) Verify(ctx context.Context, url string) error {
	entries, err := s.Status(ctx, url)
	if err != nil {
		return err
	}
	return Check(entries)
}

// Check is what Verify says about entries of Status.
func Check(entries []Entry) error {
	errs := []error{faults(entries)}
	for _, e := range entries {
		if e.State == StatePending {
			errs = append(errs, fmt.Errorf("%s: %w; run: gatehouse migrate up", e.Name, ErrPending))
		}
	}
	return errors.Join(errs...)
}
