package postgres_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"gatehouse/control/auth"
	"gatehouse/internal/apierr"
)

// lockedWithin bounds how long a call may take to come to a lock.
const lockedWithin = 20 * time.Second

// comesToALock waits until some session of the database waits for a lock. It is
// an error if the call is done before, or none waits in time.
func (f *fixture) comesToALock(t *testing.T, done <-chan error) error {
	t.Helper()
	const waiting = `SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`
	for end := time.Now().Add(lockedWithin); time.Now().Before(end); {
		select {
		case err := <-done:
			return fmt.Errorf("did not wait for the lock, and gave: %v", err)
		default:
		}
		if f.text(t, waiting) != "0" {
			return nil
		}
	}
	return errors.New("came to no lock")
}

// while runs a change in a transaction that is committed only when the call has
// come to a lock that it holds, and returns what the call gives.
func (f *fixture) while(t *testing.T, lock, change string, call func() error) error {
	t.Helper()
	tx, err := f.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), lock); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- call() }()
	if err := f.comesToALock(t, done); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	return <-done
}

const lockAda = `SELECT FROM users WHERE username = 'ada' FOR NO KEY UPDATE`

// TestRefreshWaitsForWhoRevokes revokes the family while its token is being
// used: the use sees it.
func TestRefreshWaitsForWhoRevokes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s, err := f.Login(t.Context(), "ada", password, from)
	if err != nil {
		t.Fatal(err)
	}
	err = f.while(t, lockAda, `UPDATE refresh_tokens SET revoked_at = now()`, func() error {
		_, err := f.Refresh(t.Context(), s.RefreshToken)
		return err
	})
	wantAnswer(t, "refresh", err, apierr.AuthInvalidCredentials)
}

// TestLoginWaitsForWhoDisables disables the user between the look-up and the
// session.
func TestLoginWaitsForWhoDisables(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	err := f.while(t, lockAda, `UPDATE users SET status = 'disabled' WHERE username = 'ada'`, func() error {
		_, err := f.Login(t.Context(), "ada", password, from)
		return err
	})
	wantAnswer(t, "login", err, apierr.AuthInvalidCredentials)
	if got := f.text(t, `SELECT count(*)::text FROM refresh_tokens`); got != "0" {
		t.Errorf("%s sessions were opened", got)
	}
}

// TestKeysChangeOneAfterTheOther holds one update in its step: the next one
// sees what it did, also in a table that was empty.
func TestKeysChangeOneAfterTheOther(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	second := make(chan error, 2) // what it gives, and what is told in its stead
	key, err := f.anyKey(t)
	if err != nil {
		t.Fatal(err)
	}
	f.exec(t, `DELETE FROM signing_keys`)
	_, err = f.store.UpdateKeys(t.Context(), func([]auth.SigningKey) ([]auth.SigningKey, error) {
		go func() {
			_, err := f.store.UpdateKeys(t.Context(), func(keys []auth.SigningKey) ([]auth.SigningKey, error) {
				if len(keys) != 1 {
					return nil, errors.New("saw another state than the first one left")
				}
				return keys, nil
			})
			second <- err
		}()
		if err := f.comesToALock(t, second); err != nil {
			second <- nil
			return nil, err
		}
		return []auth.SigningKey{key}, nil
	})
	if err := errors.Join(err, <-second); err != nil {
		t.Error(err)
	}
}

// anyKey returns the active key.
func (f *fixture) anyKey(t *testing.T) (key auth.SigningKey, err error) {
	_, err = f.store.UpdateKeys(t.Context(), func(keys []auth.SigningKey) ([]auth.SigningKey, error) {
		for _, k := range keys {
			if k.State == auth.KeyActive {
				key = k
			}
		}
		return keys, nil
	})
	return key, err
}
