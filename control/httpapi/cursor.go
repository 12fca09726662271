package httpapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"net/url"
	"strconv"

	"gatehouse/internal/apierr"
	"gatehouse/internal/ratelimit"
)

// Bounds of lists. The document says the same of limit.
const (
	defaultPage = 50
	cursorMAC   = 16  // bytes
	maxPosition = 512 // bytes of a store's position; a cursor fits into 1024 characters
)

// list is one request for a part of a list.
type list struct {
	name   string // the path of the list
	tenant string // as the list is bounded
	filter url.Values
	limit  int
	after  string
}

// list reads where the caller wants to go on in a list with no filter but the
// tenant.
func (a *api) list(name, tenant string, asked *string, limit *int, cursor *string) (list, error) {
	filter := url.Values{}
	add(filter, "tenant_id", asked)
	return a.filtered(name, tenant, filter, limit, cursor)
}

// add notes a member of a query that is given.
func add(q url.Values, name string, value *string) {
	if value != nil {
		q.Set(name, *value)
	}
}

// filtered reads where the caller wants to go on in a list. filter is the query
// but for limit and cursor.
func (a *api) filtered(name, tenant string, filter url.Values, limit *int, cursor *string) (list, error) {
	l := list{name: name, tenant: tenant, filter: filter, limit: defaultPage}
	if limit != nil {
		l.limit = *limit
	}
	if cursor == nil {
		return l, nil
	}
	after, ok := a.openCursor(l, *cursor)
	if !ok {
		return l, apierr.Unfit(nil, apierr.Field{Pointer: "/query/cursor", Code: "cursor", Message: "the cursor is not one of this list"})
	}
	l.after = after
	return l, nil
}

// next is the cursor behind a part, and the Link to it; both nil for the last.
func (a *api) next(l list, position string) (cursor, link *string, err error) {
	if position == "" {
		return nil, nil, nil
	}
	if len(position) > maxPosition {
		return nil, nil, fmt.Errorf("%s: a position of %d bytes, want at most %d", l.name, len(position), maxPosition)
	}
	sealed := a.sealCursor(l, position)
	q := url.Values{"cursor": {sealed}, "limit": {strconv.Itoa(l.limit)}}
	maps.Copy(q, l.filter)
	return &sealed, new("<" + l.name + "?" + q.Encode() + `>; rel="next"`), nil
}

// sealCursor binds a position to the list that it is of: a caller can't make
// one, nor use it where other things are seen.
func (a *api) sealCursor(l list, position string) string {
	mac := a.cursorMAC(l, position)
	return base64.RawURLEncoding.EncodeToString(append(mac, position...))
}

func (a *api) openCursor(l list, cursor string) (string, bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(b) <= cursorMAC {
		return "", false
	}
	position := string(b[cursorMAC:])
	return position, hmac.Equal(b[:cursorMAC], a.cursorMAC(l, position))
}

func (a *api) cursorMAC(l list, position string) []byte {
	h := hmac.New(sha256.New, a.opts.CursorKey)
	h.Write([]byte(ratelimit.Key(l.name, l.tenant, l.filter.Encode(), position))) // each part preceded by its length
	return h.Sum(nil)[:cursorMAC]
}
