package postgres

import (
	"bytes"
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"gatehouse/control/rollout"
)

const (
	// lockKeys lets one transaction at a time decide about keys: a row's lock
	// would not do for a table without rows. Readers don't wait.
	lockKeys   = `LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE`
	selectKeys = `
SELECT kid, public_key, private_key, state = 'active', created_at
FROM signing_keys WHERE purpose = 'revision' AND state <> 'retired' ORDER BY created_at, kid`

	insertKey = `
INSERT INTO signing_keys (kid, purpose, state, public_key, private_key, created_at, activated_at) VALUES ($1, 'revision', 'active', $2, $3, $4, $4)`
	resealKey = `UPDATE signing_keys SET private_key = $2 WHERE kid = $1`
)

func scanKey(row pgx.CollectableRow) (k rollout.Key, err error) {
	err = row.Scan(&k.ID, &k.Public, &k.Sealed, &k.Active, &k.Created)
	return k, err
}

// Keys implements rollout.Keyring.
func (s *Store) Keys(ctx context.Context) ([]rollout.Key, error) {
	rows, err := s.pool.Query(ctx, selectKeys)
	if err != nil {
		return nil, fault("keys of revisions", err)
	}
	keys, err := pgx.CollectRows(rows, scanKey)
	return keys, fault("keys of revisions", err)
}

// UpdateKeys implements rollout.Keyring.
func (s *Store) UpdateKeys(ctx context.Context, step func([]rollout.Key) ([]rollout.Key, error)) (keys []rollout.Key, err error) {
	err = s.tx(ctx, "keys of revisions", func(tx pgx.Tx) error {
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
			return own{err}
		}
		return s.writeKeys(ctx, tx, old, keys)
	})
	if err != nil {
		return nil, err
	}
	return keys, nil
}

// writeKeys stores what step added, with an audit row, and what it sealed anew.
// Live data does not change: a sidecar has the key from its registration.
func (s *Store) writeKeys(ctx context.Context, tx pgx.Tx, old, keys []rollout.Key) error {
	for _, k := range keys {
		i := slices.IndexFunc(old, func(o rollout.Key) bool { return o.ID == k.ID })
		var err error
		switch {
		case i < 0:
			err = s.addKey(ctx, tx, k)
		case !bytes.Equal(old[i].Sealed, k.Sealed):
			_, err = tx.Exec(ctx, resealKey, k.ID, k.Sealed)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) addKey(ctx context.Context, tx pgx.Tx, k rollout.Key) error {
	if _, err := tx.Exec(ctx, insertKey, k.ID, []byte(k.Public), k.Sealed, k.Created); err != nil {
		return err
	}
	return s.audit(ctx, tx, change{action: "active", kind: "signing_key", target: k.ID, detail: map[string]any{"purpose": "revision"}})
}
