package rollout

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"gatehouse/internal/apierr"
	"gatehouse/internal/mesh"
	"gatehouse/internal/request"
	"gatehouse/internal/revision"
)

// maxNote bounds a note in characters, as the table does.
const maxNote = 1000

// PushRevision stores the content of a policy set as a revision, after it was
// looked at and its tests have passed; the set is made if it is new. The same
// content again is the revision that is there, with created false. The revision
// is returned without its files.
//
// What is wrong is validation.invalid with every fault: pointers /policy_set,
// /note, /files or /files/PATH, the codes of Fault in the last two.
func (s *Service) PushRevision(ctx context.Context, by request.Principal, set string, files revision.Files, note string) (rev mesh.Revision, created bool, err error) {
	fields := named(set, note)
	if len(fields) == 0 && len(shape(files)) == 0 {
		known, err := s.known(ctx, set, revision.ID(files))
		if !errors.Is(err, ErrNotFound) {
			return known, false, answer(err)
		}
	}
	findings, err := s.look(ctx, files)
	if err != nil {
		return mesh.Revision{}, false, answer(err)
	}
	if fields = fieldsOf(fields, findings.Faults); len(fields) > 0 {
		return mesh.Revision{}, false, apierr.Unfit(nil, fields...)
	}
	rev, created, err = s.store(ctx, by, set, files, note)
	return rev, created, answer(err)
}

// named says what is wrong with the members of a push beside its files.
func named(set, note string) (fields []apierr.Field) {
	if !setName.MatchString(set) {
		fields = append(fields, apierr.Field{Pointer: "/policy_set", Code: "policy_set",
			Message: "a name has 1 to 63 lower-case letters, digits, - and _, and begins with a letter or digit"})
	}
	if !utf8.ValidString(note) || strings.ContainsRune(note, 0) || utf8.RuneCountInString(note) > maxNote {
		fields = append(fields, apierr.Field{Pointer: "/note", Code: "note", Message: fmt.Sprintf("a note is text of at most %d characters", maxNote)})
	}
	return fields
}

// known returns the revision with that content if it is there: it was looked at
// then. ErrNotFound.
func (s *Service) known(ctx context.Context, set, id string) (mesh.Revision, error) {
	stored, err := s.o.Store.Revision(ctx, set, id)
	if err != nil {
		return mesh.Revision{}, err
	}
	if _, err := stored.open(); err != nil {
		return mesh.Revision{}, s.tampered(ctx, stored, err)
	}
	return stored.Revision, nil
}

// look checks the content within the bounds of trial. That it takes too long is
// a fault of the set: it would be on every sidecar.
func (s *Service) look(ctx context.Context, files revision.Files) (Findings, error) {
	findings, err := s.trial.run(ctx, func(ctx context.Context) (Findings, error) { return Check(ctx, files) })
	if errors.Is(err, errTooSlow) {
		return Findings{Faults: []Fault{{Code: TestFailed, Message: err.Error()}}}, nil
	}
	return findings, err
}

// store signs and stores what was found good.
func (s *Service) store(ctx context.Context, by request.Principal, set string, files revision.Files, note string) (mesh.Revision, bool, error) {
	bundle, err := revision.Encode(files)
	if err != nil {
		return mesh.Revision{}, false, err
	}
	r, err := s.ring(ctx)
	if err != nil {
		return mesh.Revision{}, false, err
	}
	id := revision.ID(files)
	return s.o.Store.Push(ctx, by, Pushed{
		PolicySet: set, ID: id, Note: note, Bundle: bundle,
		KeyID: r.id, Signature: ed25519.Sign(r.private, statement(set, id)),
	})
}
