package httpapi

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/account"
	"gatehouse/internal/apierr"
	"gatehouse/internal/request"
)

const newUser = `{"username":"eve","password":"a long enough password","role":"observer","tenant_id":"org1","project_id":"proj1"}`

// TestUserLife is one user from its making to its end, by Location and ETag.
func TestUserLife(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	made := h.do("POST", "/api/v1/users", "admin", newUser)
	h.want(made, http.StatusCreated, "")
	at := made.header.Get("Location")
	if got := made.header.Get("ETag"); got != `"1"` || at != "/api/v1/users/"+made.text(t, "id") {
		t.Fatalf("ETag %s, Location %s", got, at)
	}
	if h.store.password != goodPassword || h.store.by[0].Subject != "admin" {
		t.Errorf("the store got password %q by %v", h.store.password, h.store.by)
	}
	if strings.Contains(made.body, "password") {
		t.Errorf("the answer speaks of the password: %s", made.body)
	}
	changed := h.do("PATCH", at, "admin", `{"role":"operator","project_id":"","disabled":true}`, "If-Match", `"1"`)
	h.want(changed, http.StatusOK, "")
	want := map[string]any{
		"id": made.text(t, "id"), "username": "eve", "role": "operator", "tenant_id": "org1", "project_id": "", "disabled": true,
		"created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:05Z", "version": float64(2),
	}
	if diff := cmp.Diff(want, h.do("GET", at, "admin", "").member(t)); diff != "" {
		t.Errorf("user (-want +got):\n%s", diff)
	}
	if h.store.password != goodPassword {
		t.Errorf("a change without a password set it to %q", h.store.password)
	}
	h.want(h.do("PATCH", at, "admin", `{"password":"another long password"}`, "If-Match", changed.header.Get("ETag")), http.StatusOK, "")
	if h.store.password != "another long password" {
		t.Errorf("the password is %q", h.store.password)
	}
	h.want(h.do("DELETE", at, "admin", "", "If-Match", `"2"`), http.StatusPreconditionFailed, apierr.StatePreconditionFailed)
	h.want(h.do("DELETE", at, "admin", "", "If-Match", `"3"`), http.StatusNoContent, "")
	h.want(h.do("GET", at, "admin", ""), http.StatusNotFound, apierr.ResourceNotFound)
}

func TestUserRefusals(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, tt := range []struct {
		name, token, body string
		status            int
		code              apierr.Code
	}{
		{"name taken", "admin", strings.Replace(newUser, "eve", "USER-org1", 1), 409, apierr.StateConflict},
		{"all tenants by an administrator of one", "admin", strings.Replace(newUser, "org1", "*", 1), 404, apierr.ResourceNotFound},
		{"all tenants, not admin", "admin-all", strings.Replace(newUser, "org1", "*", 1), 422, apierr.ValidationInvalid},
		{"role anonymous", "admin", strings.Replace(newUser, "observer", "anonymous", 1), 422, apierr.ValidationInvalid},
		{"short password", "admin", strings.Replace(newUser, goodPassword, "admin123", 1), 422, apierr.ValidationInvalid},
		{"hash given", "admin", strings.Replace(newUser, `{`, `{"password_hash":"x",`, 1), 422, apierr.ValidationInvalid},
		{"id given", "admin", strings.Replace(newUser, `{`, `{"id":"`+uuid(9)+`",`, 1), 422, apierr.ValidationInvalid},
	} {
		h.want(h.do("POST", "/api/v1/users", tt.token, tt.body), tt.status, tt.code)
	}
	if len(h.store.users) != 2 {
		t.Errorf("%d users, want the two of before", len(h.store.users))
	}
	all := h.do("POST", "/api/v1/users", "admin-all", `{"username":"root","password":"a long enough password","role":"admin","tenant_id":"*"}`)
	h.want(all, http.StatusCreated, "")
	h.want(h.do("PATCH", all.header.Get("Location"), "admin-all", `{"role":"operator"}`, "If-Match", "*"), http.StatusUnprocessableEntity, apierr.ValidationInvalid)
	h.want(h.do("GET", all.header.Get("Location"), "admin", ""), http.StatusNotFound, apierr.ResourceNotFound)
}

// TestRolesAboveOnesOwn asks the rule itself: with the shipped policy only
// administrators get so far.
func TestRolesAboveOnesOwn(t *testing.T) {
	t.Parallel()
	for i, own := range request.Roles() {
		for j, role := range request.Roles() {
			c := &call{principal: request.Principal{Role: own}}
			if err := c.grants(role, "org1"); (err == nil) != (j >= i) {
				t.Errorf("%s may give %s: %v", own, role, err)
			}
		}
	}
}

func TestPreconditions(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, tt := range []struct {
		match  string
		status int
	}{
		{`"1"`, 200}, {"*", 200}, {`"7" , "1"`, 200}, {`"a,b","1"`, 200},
		{"", 428}, {`"2"`, 412}, {`W/"1"`, 412}, {`"01"`, 412}, {`"x"`, 412}, {`"-1"`, 412}, {`""`, 412},
		{"1", 400}, {`"1`, 400}, {`"1" "2"`, 400}, {`"1",`, 400}, {`"é"`, 400}, {`*, "1"`, 400}, {strings.Repeat(`"1",`, 16) + `"1"`, 400},
	} {
		for _, path := range []string{"/api/v1/users/" + uuid(1), "/api/v1/clients/" + uuid(1), "/api/v1/tenants/org1", "/api/v1/projects/proj1?tenant_id=org1"} {
			h.store.seed()
			body := `{"name":"new"}`
			if strings.Contains(path, "users") {
				body = `{"disabled":true}`
			}
			var header []string
			if tt.match != "" {
				header = []string{"If-Match", tt.match}
			}
			if a := h.do("PATCH", path, "admin-all", body, header...); a.status != tt.status {
				t.Errorf("%s with If-Match %s: %d, want %d: %s", path, tt.match, a.status, tt.status, a.body)
			}
			if changed := len(h.store.by); changed > 0 != (tt.status == 200) {
				t.Errorf("%s with If-Match %s: %d changes", path, tt.match, changed)
			}
		}
	}
}

// TestLostUpdate changes a thing between the reading and the writing.
func TestLostUpdate(t *testing.T) {
	t.Parallel()
	h := newHarness(t, func(o *Options) { o.Projects = &racingStore{o.Projects.(*store)} })
	a := h.do("PATCH", "/api/v1/projects/proj1", "admin", `{"name":"mine"}`, "If-Match", `"1"`)
	h.want(a, http.StatusPreconditionFailed, apierr.StatePreconditionFailed)
	a = h.do("DELETE", "/api/v1/projects/proj1", "admin", "", "If-Match", `"2"`)
	h.want(a, http.StatusPreconditionFailed, apierr.StatePreconditionFailed)
	h.want(h.do("DELETE", "/api/v1/projects/proj1", "admin", ""), http.StatusNoContent, "")
}

func TestClients(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	made := h.do("POST", "/api/v1/clients", "admin", `{"name":"CI","role":"developer","tenant_id":"org1","agent":"builder"}`)
	h.want(made, http.StatusCreated, "")
	secret := made.text(t, "client_secret")
	at := made.header.Get("Location")
	if secret == "" || at != "/api/v1/clients/"+made.text(t, "id") {
		t.Fatalf("secret %q, Location %s", secret, at)
	}
	changed := h.do("PATCH", at, "admin", `{"name":"CD","agent":"","role":"observer","project_id":"proj1"}`, "If-Match", `"1"`)
	h.want(changed, http.StatusOK, "")
	if changed.text(t, "name") != "CD" || changed.text(t, "agent") != "" || changed.text(t, "role") != "observer" || changed.text(t, "project_id") != "proj1" {
		t.Errorf("changed: %s", changed.body)
	}
	for _, later := range []answer{h.do("GET", at, "admin", ""), h.do("GET", "/api/v1/clients", "admin", ""), changed} {
		if strings.Contains(later.body, "secret") {
			t.Errorf("the secret is shown again: %s", later.body)
		}
	}
	h.want(h.do("DELETE", at, "admin", ""), http.StatusNoContent, "")
}

func TestTenantLife(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	made := h.do("POST", "/api/v1/tenants", "admin-all", `{"id":"org3","name":"Three"}`)
	h.want(made, http.StatusCreated, "")
	h.want(h.do("POST", "/api/v1/tenants", "admin-all", `{"id":"org3","name":"Three"}`), http.StatusConflict, apierr.StateConflict)
	at := made.header.Get("Location")
	suspended := h.do("POST", at+"/suspend", "admin-all", "", "If-Match", `"1"`)
	h.want(suspended, http.StatusOK, "")
	again := h.do("POST", at+"/suspend", "admin-all", "")
	if again.member(t, "suspended") != true || again.header.Get("ETag") != `"2"` {
		t.Errorf("suspended twice: %s %s", again.header.Get("ETag"), again.body)
	}
	h.want(h.do("POST", at+"/resume", "admin-all", "", "If-Match", `"1"`), http.StatusPreconditionFailed, apierr.StatePreconditionFailed)
	resumed := h.do("POST", at+"/resume", "admin-all", "")
	if resumed.member(t, "suspended") != false || len(h.store.by) != 4 {
		t.Errorf("resumed: %s after %d changes, want 4", resumed.body, len(h.store.by))
	}
	h.want(h.do("DELETE", at, "admin-all", "", "If-Match", `"2"`), http.StatusPreconditionFailed, apierr.StatePreconditionFailed)
	h.want(h.do("DELETE", at, "admin-all", ""), http.StatusNoContent, "")
}

func TestProjectsOfTwoTenants(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.want(h.do("GET", "/api/v1/projects/proj1", "admin-all", ""), http.StatusUnprocessableEntity, apierr.ValidationInvalid)
	if got := h.do("GET", "/api/v1/projects/proj1?tenant_id=org2", "admin-all", "").text(t, "tenant_id"); got != "org2" {
		t.Errorf("project of %q, want org2", got)
	}
	if got := h.do("GET", "/api/v1/projects/proj1", "admin", "").text(t, "tenant_id"); got != "org1" {
		t.Errorf("project of %q, want the caller's", got)
	}
	made := h.do("POST", "/api/v1/projects", "admin-all", `{"id":"p2","tenant_id":"org2","name":"Two"}`)
	if got := made.header.Get("Location"); got != "/api/v1/projects/p2?tenant_id=org2" {
		t.Errorf("Location %s", got)
	}
	h.want(h.do("GET", made.header.Get("Location"), "admin-all", ""), http.StatusOK, "")
}

// all follows a list by its Link to the end and returns the ids seen.
func (h *harness) all(path, token string) (ids []string) {
	h.t.Helper()
	for range 200 {
		a := h.do("GET", path, token, "")
		h.want(a, http.StatusOK, "")
		items, _ := a.member(h.t, "items").([]any)
		for _, item := range items {
			ids = append(ids, fmt.Sprint(item.(map[string]any)["id"]))
		}
		link, cursor := a.header.Get("Link"), a.text(h.t, "next")
		if link == "" != (cursor == "") {
			h.t.Fatalf("Link %q, next %q", link, cursor)
		}
		if link == "" {
			return ids
		}
		var ok bool
		if path, ok = strings.CutSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`); !ok {
			h.t.Fatalf("Link %q", link)
		}
	}
	h.t.Fatal("the list has no end")
	return nil
}

func TestPaging(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	var want []string
	for i := range 120 {
		id := uuid(1000 + i)
		want = append(want, id)
		h.store.users = append(h.store.users, account.User{ID: id, Username: id, Role: request.RoleObserver, Tenant: "org2", CreatedAt: seeded, UpdatedAt: seeded, Version: 1})
	}
	want = append([]string{uuid(2)}, want...)
	for _, query := range []string{"", "&limit=1", "&limit=7", "&limit=121", "&limit=200"} {
		if diff := cmp.Diff(want, h.all("/api/v1/users?tenant_id=org2"+query, "admin-all")); diff != "" {
			t.Errorf("users with %q (-want +got):\n%s", query, diff)
		}
	}
	if got := h.all("/api/v1/users?limit=50", "admin-all"); len(got) != 122 {
		t.Errorf("%d users of all tenants, want 122", len(got))
	}
	if got := h.all("/api/v1/users", "admin"); !slices.Equal(got, []string{uuid(1)}) {
		t.Errorf("users of the caller's tenant: %v", got)
	}
	for _, path := range []string{"/api/v1/tenants?limit=1", "/api/v1/projects?limit=1", "/api/v1/clients?limit=1"} {
		if got := h.all(path, "admin-all"); len(got) != 2 {
			t.Errorf("%s: %v, want two", path, got)
		}
	}
}

// TestCursorsAreBound uses a cursor where it was not given.
func TestCursorsAreBound(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	cursor := h.do("GET", "/api/v1/users?limit=1", "admin-all", "").text(t, "next")
	if cursor == "" {
		t.Fatal("no cursor")
	}
	h.want(h.do("GET", "/api/v1/users?cursor="+cursor, "admin-all", ""), http.StatusOK, "")
	last := cursor[len(cursor)-1:]
	flipped := cursor[:len(cursor)-1] + map[bool]string{true: "B", false: "A"}[last == "A"]
	for name, tt := range map[string]struct{ path, token string }{
		"another list":       {"/api/v1/clients?cursor=" + cursor, "admin-all"},
		"another caller":     {"/api/v1/users?cursor=" + cursor, "admin"},
		"another filter":     {"/api/v1/users?tenant_id=org1&cursor=" + cursor, "admin-all"},
		"changed":            {"/api/v1/users?cursor=" + flipped, "admin-all"},
		"made up":            {"/api/v1/users?cursor=AAAA", "admin-all"},
		"no base64":          {"/api/v1/users?cursor=A", "admin-all"},
		"not the alphabet":   {"/api/v1/users?cursor=%2B", "admin-all"},
		"limit out of range": {"/api/v1/users?limit=201", "admin-all"},
		"unknown member":     {"/api/v1/users?limt=1", "admin-all"},
	} {
		a := h.do("GET", tt.path, tt.token, "")
		if a.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s, want 422", name, a.status, a.body)
		}
	}
	h.want(h.do("GET", "/api/v1/users?limit=%zz", "admin-all", ""), http.StatusUnprocessableEntity, apierr.ValidationInvalid)
	h.want(h.do("GET", "/health?now=%zz", "", ""), http.StatusOK, "") // a probe may add what it likes
	other := newHarness(t, func(o *Options) { o.CursorKey = []byte(strings.Repeat("x", minCursorKey)) })
	other.want(other.do("GET", "/api/v1/users?cursor="+cursor, "admin-all", ""), http.StatusUnprocessableEntity, apierr.ValidationInvalid)
}

func TestPositionTooLong(t *testing.T) {
	t.Parallel()
	a := &api{opts: Options{CursorKey: make([]byte, minCursorKey)}}
	if _, _, err := a.next(list{name: "x"}, strings.Repeat("a", maxPosition+1)); err == nil {
		t.Error("a position over the bound is taken")
	}
	cursor, _, err := a.next(list{name: "x"}, strings.Repeat("a", maxPosition))
	if err != nil || len(*cursor) > 1024 {
		t.Errorf("the longest position: %v, a cursor of %d characters", err, len(*cursor))
	}
}

// TestLoginTellsNothing compares the answers to all ways to fail.
func TestLoginTellsNothing(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	seen := map[string]string{}
	for name, err := range map[string]error{
		"wrong":     apierr.New(apierr.AuthInvalidCredentials, apierr.Options{}),
		"no user":   apierr.New(apierr.ResourceNotFound, apierr.Options{}),
		"disabled":  apierr.New(apierr.AuthForbidden, apierr.Options{Details: []apierr.Detail{apierr.Text("reason", "disabled")}}),
		"suspended": apierr.New(apierr.StateConflict, apierr.Options{Details: []apierr.Detail{apierr.Text("reason", "suspended")}}),
	} {
		h.auth.err = err
		for _, path := range []string{"/api/v1/auth/login", "/api/v1/auth/token"} {
			body := map[bool]string{true: goodLogin, false: `{"client_id":"c","client_secret":"s"}`}[path == "/api/v1/auth/login"]
			a := h.do("POST", path, "", body, "X-Request-Id", "same")
			seen[fmt.Sprint(a.status, a.body, a.header)] = name
		}
	}
	if len(seen) != 1 {
		t.Errorf("the answers differ: %v", slices.Sorted(maps.Keys(seen)))
	}
	for text := range seen {
		if !strings.HasPrefix(text, "401") || !strings.Contains(text, "auth.invalid_credentials") {
			t.Errorf("the answer is %s", text)
		}
	}
}

// TestLockOut keeps the wait of a lock-out, and no more of it.
func TestLockOut(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.auth.err = apierr.New(apierr.RateLimitExceeded, apierr.Options{
		Details: []apierr.Detail{apierr.Text("reason", "user ada is locked")}, Cause: waiting{"lockout", 899500 * time.Millisecond},
	})
	a := h.do("POST", "/api/v1/auth/login", "", goodLogin)
	h.want(a, http.StatusTooManyRequests, apierr.RateLimitExceeded)
	if a.header.Get("Retry-After") != "900" || strings.Contains(a.body, "ada") {
		t.Errorf("Retry-After %q, body %s", a.header.Get("Retry-After"), a.body)
	}
}

func TestTokensIssued(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	want := map[string]any{"access_token": "a.b.c", "token_type": "Bearer", "expires_in": float64(600), "refresh_token": "r_1", "role": "developer", "tenant_id": "org1"}
	if diff := cmp.Diff(want, h.do("POST", "/api/v1/auth/login", "", goodLogin).member(t)); diff != "" {
		t.Errorf("login (-want +got):\n%s", diff)
	}
	delete(want, "refresh_token")
	if diff := cmp.Diff(want, h.do("POST", "/api/v1/auth/token", "", `{"client_id":"c","client_secret":"s"}`).member(t)); diff != "" {
		t.Errorf("client (-want +got):\n%s", diff)
	}
	h.want(h.do("POST", "/api/v1/auth/logout", "", `{"refresh_token":"r_1"}`), http.StatusNoContent, "")
}
