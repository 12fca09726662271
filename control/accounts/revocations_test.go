package accounts_test

import (
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

func TestSubjectIsRevoked(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	u := f.user(t, "ada", "org1")
	c, _, err := f.CreateClient(t.Context(), admin(), account.Client{Name: "ci", Role: request.RoleDeveloper, Tenant: "org2"})
	wantCode(t, "client", err, "")
	for _, tt := range []struct {
		name, tenant, subject string
		known                 bool
		want                  string // tenant of the revocation; "" for none
	}{
		{"own user", "org1", u.ID, true, "org1"},
		{"user, from all tenants", "*", u.ID, true, "org1"},
		{"client, from all tenants", "*", c.ID, true, "org2"},
		{"another tenant's client", "org1", c.ID, true, ""},
		{"another tenant's user", "org2", u.ID, true, ""},
		{"nobody", "*", "00000000-0000-0000-0000-000000000000", true, ""},
		{"no id", "*", "somebody@elsewhere", true, ""},
		{"somebody elsewhere", "org1", "somebody@elsewhere", false, "org1"},
	} {
		epoch, before := f.epoch(t), time.Now().Add(-time.Minute)
		r, err := f.RevokeSubject(t.Context(), admin(), account.Revocation{Tenant: tt.tenant, Subject: tt.subject, Reason: "gone"}, tt.known)
		if tt.want == "" {
			wantCode(t, tt.name, err, apierr.ResourceNotFound)
		} else if err != nil || r.Tenant != tt.want || r.Subject != tt.subject || r.Reason != "gone" || r.IssuedBefore.Before(before) {
			t.Errorf("%s: got %+v and %v, want one of %s", tt.name, r, err, tt.want)
		}
		if told := f.epoch(t) != epoch; told != (tt.want != "") {
			t.Errorf("%s: sidecars are told: %t", tt.name, told)
		}
	}
	if n := f.text(t, `SELECT count(*)::text FROM audit_log WHERE action = 'subject.revoke'`); n != "4" {
		t.Errorf("%s audit rows, want 4", n)
	}
	if n := f.text(t, `SELECT count(*)::text FROM audit_log WHERE action = 'subject.revoke' AND tenant_id = 'org2' AND target = $1`, c.ID); n != "1" {
		t.Errorf("%s audit rows in the client's tenant, want 1", n)
	}
}
