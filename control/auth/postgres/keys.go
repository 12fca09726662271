package postgres

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"gatehouse/control/auth"
	"gatehouse/internal/postgres"
	"gatehouse/internal/request"
)

const (
	// lockKeys lets one transaction at a time decide about keys: a row's lock
	// would not do for a table without rows. Readers don't wait.
	lockKeys   = `LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE`
	selectKeys = `
SELECT kid, state, public_key, private_key, created_at, activated_at, retiring_at
FROM signing_keys WHERE purpose = 'token' AND state <> 'retired' ORDER BY created_at, kid`

	upsertKey = `
INSERT INTO signing_keys (kid, purpose, state, public_key, private_key, created_at, activated_at, retiring_at, retired_at)
VALUES ($1, 'token', $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (kid) DO UPDATE SET state = $2, private_key = $4, activated_at = $6, retiring_at = $7, retired_at = $8`

	nextEpoch = `SELECT next_live_epoch()`
)

// UpdateKeys implements auth.Keys.
func (s *Store) UpdateKeys(ctx context.Context, step func([]auth.SigningKey) ([]auth.SigningKey, error)) (keys []auth.SigningKey, err error) {
	err = s.tx(ctx, "updating signing keys", func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockKeys); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, selectKeys)
		if err != nil {
			return err
		}
		old, err := pgx.CollectRows(rows, scanKey)
		if err != nil {
			return err
		}
		if keys, err = step(old); err != nil {
			return err
		}
		return writeKeys(ctx, tx, old, keys)
	})
	return keys, err
}

func scanKey(row pgx.CollectableRow) (k auth.SigningKey, err error) {
	var state string
	var public []byte
	var activated, retiring pgtype.Timestamptz
	err = row.Scan(&k.KID, &state, &public, &k.Sealed, &k.Created, &activated, &retiring)
	k.State, k.Public = auth.KeyState(state), ed25519.PublicKey(public)
	k.Activated, k.Retiring = activated.Time, retiring.Time
	return k, err
}

// order is that in which changes are written: a state that one key at most can
// have is left before it is entered.
func order(k auth.SigningKey) int {
	return slices.Index([]auth.KeyState{auth.KeyRetired, auth.KeyRetiring, auth.KeyActive, auth.KeyNext}, k.State)
}

// writeKeys stores what step changed. Sidecars are told by the epoch of live
// data, people by an audit row for each change of state.
func writeKeys(ctx context.Context, tx pgx.Tx, old, keys []auth.SigningKey) error {
	keys = slices.SortedFunc(slices.Values(keys), func(a, b auth.SigningKey) int { return cmp.Compare(order(a), order(b)) })
	moved := false
	for _, k := range keys {
		i := slices.IndexFunc(old, func(o auth.SigningKey) bool { return o.KID == k.KID })
		if i >= 0 && same(old[i], k) {
			continue
		}
		if _, err := tx.Exec(ctx, upsertKey, k.KID, string(k.State), []byte(k.Public), k.Sealed, k.Created, at(k.Activated), at(k.Retiring), at(k.Retired)); err != nil {
			return err
		}
		if i >= 0 && old[i].State == k.State {
			continue // sealed again
		}
		moved = true
		if err := auditKey(ctx, tx, k); err != nil {
			return err
		}
	}
	if !moved {
		return nil
	}
	_, err := tx.Exec(ctx, nextEpoch)
	return err
}

func same(a, b auth.SigningKey) bool { return a.State == b.State && slices.Equal(a.Sealed, b.Sealed) }

// at is NULL for the zero time.
func at(t time.Time) pgtype.Timestamptz { return pgtype.Timestamptz{Time: t, Valid: !t.IsZero()} }

func auditKey(ctx context.Context, tx pgx.Tx, k auth.SigningKey) error {
	return postgres.Audit(ctx, tx, postgres.Event{
		Tenant: request.AnyTenant, ActorKind: "system", Actor: "control", Action: "signing_key." + string(k.State),
		TargetKind: "signing_key", Target: k.KID,
	})
}
