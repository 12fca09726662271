package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/control/dlq/postgres"
	"gatehouse/internal/deadletter"
	"gatehouse/internal/pgtest"
	"gatehouse/internal/seal"
)

func newBox(t *testing.T) *seal.Box {
	t.Helper()
	box, err := seal.New(bytes.Repeat([]byte{'k'}, seal.MinSecretBytes), nil)
	if err != nil {
		t.Fatal(err)
	}
	return box
}

func newStore(t *testing.T) (*postgres.Store, *pgxpool.Pool, *seal.Box) {
	t.Helper()
	pool, box := pgtest.New(t), newBox(t)
	if _, err := pool.Exec(t.Context(), `INSERT INTO tenants (id) VALUES ('org1')`); err != nil {
		t.Fatal(err)
	}
	s, err := postgres.New(postgres.Options{Pool: pool, Box: box})
	if err != nil {
		t.Fatal(err)
	}
	return s, pool, box
}

func letter(id, payload string) deadletter.Letter {
	return deadletter.Letter{
		Tenant: "org1", Source: "settlement", MessageID: id, Kind: "expired", Payload: []byte(payload), Class: "refused", Message: "why",
	}
}

func TestAdd(t *testing.T) {
	t.Parallel()
	s, pool, box := newStore(t)
	l := letter("m1", "what was said")
	l.Project = "p1"
	if err := s.Add(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	rows, err := pool.Query(t.Context(), `SELECT tenant_id, project_id, source, message_id, kind, payload, error_class, error_message FROM dlq_messages WHERE NOT resolved AND retry_count = 0`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[deadletter.Letter])
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(got.Payload, l.Payload) {
		t.Error("the payload rests in clear")
	}
	if got.Payload, err = deadletter.Open(box, got.Source, got.MessageID, got.Payload); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(l, got); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
}

// TestOnce: of several that say the same, at once too, the first counts.
func TestOnce(t *testing.T) {
	t.Parallel()
	s, pool, box := newStore(t)
	if err := s.Add(t.Context(), letter("m1", "first")); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := s.Add(t.Context(), letter("m1", "again")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := s.Add(t.Context(), letter("m2", "another")); err != nil {
		t.Fatal(err)
	}
	var n int
	var sealed []byte
	if err := pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM dlq_messages), payload FROM dlq_messages WHERE message_id = 'm1'`).Scan(&n, &sealed); err != nil {
		t.Fatal(err)
	}
	if text, err := deadletter.Open(box, "settlement", "m1", sealed); n != 2 || err != nil || string(text) != "first" {
		t.Errorf("%d letters, the first is %q, %v", n, text, err)
	}
}

func TestAddRefuses(t *testing.T) {
	t.Parallel()
	s, pool, box := newStore(t)
	if err := s.Add(t.Context(), letter("", "x")); !errors.Is(err, deadletter.ErrInvalid) {
		t.Errorf("a letter without a place: %v", err)
	}
	l := letter("m1", "x")
	l.Tenant = "org2"
	if err := s.Add(t.Context(), l); !errors.Is(err, deadletter.ErrInvalid) {
		t.Errorf("a letter of a tenant that is not there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Add(ctx, letter("m1", "x")); err == nil || errors.Is(err, deadletter.ErrInvalid) {
		t.Errorf("without time: %v", err)
	}
	for _, o := range []postgres.Options{{Pool: pool}, {Box: box}} {
		if _, err := postgres.New(o); err == nil {
			t.Error("a store without all that it needs")
		}
	}
}
