package decisions

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"gatehouse/internal/mesh"
	"gatehouse/internal/request"
)

// Bounds of a record, beside mesh.MaxRecordBytes.
const (
	maxDepth  = 16
	maxNumber = 32 // characters
	maxID     = 64 // bytes; longer ones are refused, for cut ones could be equal
	maxTenant = 63
	maxShort  = 64  // of columns; longer texts are cut there, not in the record
	maxText   = 256 // of columns
)

// kindDecision is the kind of the records that are kept.
const kindDecision = "decision"

// record is what columns are made of. What else a record holds is kept as it is.
type record struct {
	Kind       string    `json:"kind"`
	Time       time.Time `json:"time"`
	DecisionID string    `json:"decision_id"`
	RequestID  string    `json:"request_id"`
	Revision   string    `json:"revision"`
	Route      string    `json:"route"`
	Principal  struct {
		Subject string `json:"subject"`
		Tenant  string `json:"tenant"`
	} `json:"principal"`
	Allowed   *bool  `json:"allowed"`
	WouldDeny bool   `json:"would_deny"`
	ErrorCode string `json:"error_code"`
	RuleID    string `json:"rule_id"`

	text []byte // all of it, as Postgres takes it
}

// parse reads one record. Members that it doesn't know may hold anything.
func parse(line []byte) (r record, err error) {
	if len(line) > mesh.MaxRecordBytes {
		return r, fmt.Errorf("a record of %d bytes, at most %d are kept", len(line), mesh.MaxRecordBytes)
	}
	text, err := normalize(line)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, err
	}
	switch {
	case r.Kind != kindDecision || r.Allowed == nil || r.Time.Unix() < 0:
		return r, errors.New("it is no decision")
	case r.DecisionID == "" || len(r.DecisionID) > maxID:
		return r, errors.New("it has no decision_id, or too long a one")
	}
	r.text = text
	return r, nil
}

// normalize returns a record as Postgres would write it, and refuses what
// Postgres would: broken UTF-8, members with one name, surrogates alone, deep
// nesting, and numbers that are long when written out. So the length that the
// table bounds is the length of the result. NUL becomes U+FFFD.
func normalize(line []byte) ([]byte, error) {
	var b bytes.Buffer
	in := jsontext.NewDecoder(bytes.NewReader(line))
	out := jsontext.NewEncoder(&b, jsontext.SpaceAfterColon(true), jsontext.SpaceAfterComma(true))
	for first := true; first || in.StackDepth() > 0; first = false {
		t, err := in.ReadToken()
		if err != nil {
			return nil, err
		}
		if t, err = accept(t, first, in.StackDepth()); err != nil {
			return nil, err
		}
		if err := out.WriteToken(t); err != nil {
			return nil, err
		}
	}
	text := bytes.TrimSpace(b.Bytes())
	if len(bytes.TrimSpace(line[in.InputOffset():])) > 0 || len(text) > mesh.MaxRecordBytes {
		return nil, errors.New("it is more than one object, or too long when written out")
	}
	return text, nil
}

// accept returns a token as it is stored.
func accept(t jsontext.Token, first bool, depth int) (jsontext.Token, error) {
	switch {
	case first && t.Kind() != jsontext.KindBeginObject:
		return t, errors.New("it is no object")
	case depth > maxDepth:
		return t, fmt.Errorf("it is nested deeper than %d", maxDepth)
	case t.Kind() == jsontext.KindString:
		return jsontext.String(clean(t.String())), nil
	case t.Kind() == jsontext.KindNumber && (len(t.String()) > maxNumber || strings.ContainsAny(t.String(), "eE")):
		return t, errors.New("it has a number that is not written in a few plain digits")
	}
	return t, nil
}

// errForeign says that a record is of a tenant that its sidecar doesn't serve.
var errForeign = errors.New("the record is another tenant's")

// tenant says whose record it is: the principal's tenant's, or the sidecar's
// where that is none.
func (r record) tenant(s mesh.Sidecar) (string, error) {
	t := r.Principal.Tenant
	switch {
	case t == "" || t == request.AnyTenant || t == s.Tenant:
		return s.Tenant, nil
	case !s.Shared:
		return "", errForeign
	case len(t) > maxTenant:
		return "", errors.New("it has too long a tenant")
	}
	return t, nil
}

// cut shortens a text to limit bytes, between characters.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}
