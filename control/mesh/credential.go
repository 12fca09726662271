package mesh

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"gatehouse/internal/mesh"
)

// Form of a credential's secret: what those search logs and files for who look
// for secrets, and 256 random bits, so that its SHA-256 is enough to keep.
const (
	secretPrefix = "ghs_"
	secretBytes  = 32
	maxSecret    = 512 // bytes of what is looked up
)

const authenticate = `SELECT ` + sidecarColumns + ` FROM sidecars s WHERE s.credential_hash = $1 AND s.status = 'active'`

// credential makes a new credential.
func (s *Store) credential(ctx context.Context) (mesh.Credential, error) {
	keys, err := s.o.Keys(ctx)
	if err == nil && len(keys) == 0 {
		err = errors.New("there are none")
	}
	if err != nil {
		return mesh.Credential{}, answer(fmt.Errorf("keys of revisions: %w", err))
	}
	b := make([]byte, secretBytes)
	rand.Read(b) // never fails: crypto/rand ends the process instead
	return mesh.Credential{Secret: secretPrefix + base64.RawURLEncoding.EncodeToString(b), Keys: keys}, nil
}

func digest(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// Authenticate returns the sidecar whose secret it is. mesh.ErrUnknown says that
// it is no active sidecar's, whatever else it may be; any other error is the
// database's.
func (s *Store) Authenticate(ctx context.Context, secret string) (mesh.Sidecar, error) {
	if secret == "" || len(secret) > maxSecret {
		return mesh.Sidecar{}, mesh.ErrUnknown
	}
	sc, err := scanSidecar(s.o.Pool.QueryRow(ctx, authenticate, digest(secret)))
	if errors.Is(err, pgx.ErrNoRows) {
		return mesh.Sidecar{}, mesh.ErrUnknown
	}
	return orNone(sc, answer(err))
}
