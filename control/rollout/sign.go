package rollout

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"

	"gatehouse/internal/apierr"
	"gatehouse/internal/revision"
)

var (
	errContent   = errors.New("its content is not what its id says")
	errSignature = errors.New("it is not signed by a key of this control")
)

// statement is what is signed of a stored revision: that this control took it
// for this set. Its first word keeps it apart from what else the key signs.
func statement(set, id string) (b []byte) {
	for _, text := range []string{"gatehouse revision v1", set, id} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(text)))
		b = append(b, text...)
	}
	return b
}

// open returns the files of a revision if they are what its id names.
func (r Stored) open() (revision.Files, error) {
	files, err := revision.Decode(r.Bundle)
	if err != nil {
		return nil, errors.Join(errContent, err)
	}
	if revision.ID(files) != r.ID {
		return nil, errContent
	}
	return files, nil
}

// verify says whether a revision is what was pushed into its set.
func (r Stored) verify(keys revision.Keys) error {
	if _, err := r.open(); err != nil {
		return err
	}
	key := keys[r.KeyID]
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, statement(r.PolicySet, r.ID), r.Signature) {
		return errSignature
	}
	return nil
}

// tampered logs that a stored revision is not what was pushed, and is the answer.
func (s *Service) tampered(ctx context.Context, r Stored, err error) error {
	s.o.Log.ErrorContext(ctx, "a stored revision was changed", "policy_set", r.PolicySet, "revision", r.ID, "error", err)
	return apierr.New(apierr.Internal, apierr.Options{Cause: err})
}
