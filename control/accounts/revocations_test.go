package accounts_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/apierr"
	"gatehouse/internal/request"
)

func TestTokenIsRevokedOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	epoch, r := f.epoch(t), account.Revocation{Tenant: "org1", TokenID: "jti-1", Reason: "laptop lost"}
	first, err := f.RevokeToken(t.Context(), admin(), r)
	if err != nil || first.Tenant != "org1" || first.TokenID != "jti-1" || first.Reason != "laptop lost" || first.Subject != "" || !first.IssuedBefore.IsZero() {
		t.Fatalf("got %+v and %v", first, err)
	}
	if f.epoch(t) == epoch {
		t.Error("no sidecar is told")
	}
	if life := f.text(t, `SELECT (expires_at - created_at BETWEEN interval '15 minutes' AND interval '16 minutes')::text FROM revocations`); life != "true" {
		t.Error("it is not kept for as long as a token lives")
	}
	epoch = f.epoch(t)
	r.Reason = "another"
	again, err := f.RevokeToken(t.Context(), admin(), r)
	if err != nil || again != first || f.epoch(t) != epoch {
		t.Errorf("again: got %+v and %v, want %+v", again, err, first)
	}
	if _, err := f.pool.Exec(t.Context(), `UPDATE revocations SET expires_at = clock_timestamp()`); err != nil {
		t.Fatal(err)
	}
	later, err := f.RevokeToken(t.Context(), request.Principal{}, r)
	if err != nil || later.Reason != "another" || !later.ExpiresAt.After(first.ExpiresAt) {
		t.Errorf("after the first has expired: got %+v and %v", later, err)
	}
	if got := f.text(t, `SELECT string_agg(created_by, ' ' ORDER BY created_at) FROM revocations`); got != admin().Subject+" control" {
		t.Errorf("revoked by %s", got)
	}
	if got := f.text(t, `SELECT count(*)::text FROM audit_log WHERE action = 'token.revoke' AND target = 'jti-1' AND tenant_id = 'org1'`); got != "3" {
		t.Errorf("%s audit rows, want 3", got)
	}
}

// TestTokenIsRevokedAtOnce revokes one token ten times at the same time.
func TestTokenIsRevokedAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			_, err := f.RevokeToken(t.Context(), admin(), account.Revocation{Tenant: "*", TokenID: "jti-1"})
			wantCode(t, "revocation", err, "")
		})
	}
	wg.Wait()
	if n := f.text(t, `SELECT count(*)::text FROM revocations`); n != "1" {
		t.Errorf("%s revocations, want 1", n)
	}
}

// TestTokenIsRevokedByEachTenant tells the tenants' revocations apart: none
// stands in for another's.
func TestTokenIsRevokedByEachTenant(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, tenant := range []string{"org1", "org2", "*"} {
		r, err := f.RevokeToken(t.Context(), admin(), account.Revocation{Tenant: tenant, TokenID: "jti-1", Reason: "of " + tenant})
		if err != nil || r.Tenant != tenant || r.Reason != "of "+tenant {
			t.Errorf("%s: got %+v and %v", tenant, r, err)
		}
	}
	if got := f.text(t, `SELECT string_agg(tenant_id, ' ' ORDER BY created_at) FROM revocations WHERE token_id = 'jti-1'`); got != "org1 org2 *" {
		t.Errorf("revoked for %s, want org1, org2 and *", got)
	}
}

// refuse fills a tenant's revocations of tokens, of which the first expires
// after a minute.
func (f fixture) refuse(t *testing.T, tenant string, n int) {
	t.Helper()
	const fill = `INSERT INTO revocations (tenant_id, kind, token_id, epoch, created_by, expires_at)
		SELECT $1, 'token', 't' || n, 1, 'x', clock_timestamp() + n * interval '1 minute' FROM generate_series(1, $2::int) n`
	if _, err := f.pool.Exec(t.Context(), fill, tenant, n); err != nil {
		t.Fatal(err)
	}
}

func TestRevokedTokensAreBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.refuse(t, "org1", 9_999)
	of := func(tenant, id string) account.Revocation { return account.Revocation{Tenant: tenant, TokenID: id} }
	var refused sync.Map
	var wg sync.WaitGroup
	for i := range 8 { // together they pass the bound no further than alone
		wg.Go(func() {
			if _, err := f.RevokeToken(t.Context(), admin(), of("org1", fmt.Sprint("new-", i))); err != nil {
				refused.Store(i, err)
			}
		})
	}
	wg.Wait()
	n := 0
	for _, err := range refused.Range {
		n++
		e := apierr.From(err.(error))
		var wait interface{ RetryAfter() time.Duration }
		if e.Code() != apierr.RateLimitExceeded || !errors.As(e, &wait) || wait.RetryAfter() < 50*time.Second || wait.RetryAfter() > time.Minute {
			t.Errorf("above: %v, want a wait of a minute", err)
		}
	}
	if n != 7 {
		t.Errorf("%d of 8 are refused, want all but one", n)
	}
	if got := f.text(t, `SELECT count(*)::text FROM audit_log WHERE action = 'token.revoke'`); got != "1" {
		t.Errorf("%s audit rows, want 1", got)
	}
	_, err := f.RevokeToken(t.Context(), admin(), of("org1", "t5000"))
	wantCode(t, "what is refused already", err, "")
	_, err = f.RevokeToken(t.Context(), admin(), of("org2", "x"))
	wantCode(t, "another tenant", err, "")
	if _, err := f.pool.Exec(t.Context(), `UPDATE revocations SET expires_at = clock_timestamp() WHERE token_id = 't1'`); err != nil {
		t.Fatal(err)
	}
	_, err = f.RevokeToken(t.Context(), admin(), of("org1", "y"))
	wantCode(t, "after one has expired", err, "")
}

func TestSubjectIsRevoked(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	u := f.user(t, "ada", "org1")
	c, _, err := f.CreateClient(t.Context(), admin(), account.Client{Name: "ci", Role: request.RoleDeveloper, Tenant: "org2"})
	wantCode(t, "client", err, "")
	for _, tt := range []struct {
		name, tenant, subject string
		want                  string // tenant of the revocation; "" for none
	}{
		{"own user", "org1", u.ID, "org1"},
		{"user, from all tenants", "*", u.ID, "org1"},
		{"client, from all tenants", "*", c.ID, "org2"},
		{"another tenant's client", "org1", c.ID, ""},
		{"another tenant's user", "org2", u.ID, ""},
		{"nobody", "*", "00000000-0000-0000-0000-000000000000", ""},
		{"no id", "*", "somebody@elsewhere", ""},
		{"no id, of a tenant", "org1", "somebody@elsewhere", ""},
	} {
		epoch, before := f.epoch(t), time.Now().Add(-time.Minute)
		r, err := f.RevokeSubject(t.Context(), admin(), account.Revocation{Tenant: tt.tenant, Subject: tt.subject, Reason: "gone"})
		if tt.want == "" {
			wantCode(t, tt.name, err, apierr.ResourceNotFound)
		} else if err != nil || r.Tenant != tt.want || r.Subject != tt.subject || r.Reason != "gone" || r.IssuedBefore.Before(before) {
			t.Errorf("%s: got %+v and %v, want one of %s", tt.name, r, err, tt.want)
		}
		if told := f.epoch(t) != epoch; told != (tt.want != "") {
			t.Errorf("%s: sidecars are told: %t", tt.name, told)
		}
	}
	if n := f.text(t, `SELECT count(*)::text FROM audit_log WHERE action = 'subject.revoke'`); n != "3" {
		t.Errorf("%s audit rows, want 3", n)
	}
	if n := f.text(t, `SELECT count(*)::text FROM audit_log WHERE action = 'subject.revoke' AND tenant_id = 'org2' AND target = $1`, c.ID); n != "1" {
		t.Errorf("%s audit rows in the client's tenant, want 1", n)
	}
}
