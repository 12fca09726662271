package httpapi

import (
	"errors"
	"time"
)

// errForeign is a store that returned what it was not asked for.
var errForeign = errors.New("the store returned something of another tenant")

// set takes over what a change gives.
func set[T any](to *T, given *T) {
	if given != nil {
		*to = *given
	}
}

// shown turns a part of a list into what callers see. An item of a tenant that
// the caller may not see is a defect of the store, and nothing is shown.
func shown[T, S any](c *call, items []T, tenant func(T) string, show func(T) S) ([]S, error) {
	out := make([]S, 0, len(items))
	for _, item := range items {
		if err := c.sees(tenant(item)); err != nil {
			return nil, errForeign
		}
		out = append(out, show(item))
	}
	return out, nil
}

// each turns all items into what callers see, where none can be a tenant's.
func each[T, S any](items []T, show func(T) S) []S {
	out := make([]S, 0, len(items))
	for _, item := range items {
		out = append(out, show(item))
	}
	return out
}

// known is a time that may not be there.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(t.UTC())
}
