package accounts_test

import (
	"fmt"
	"slices"
	"testing"

	"gatehouse/internal/account"
	"gatehouse/internal/apierr"
	"gatehouse/internal/request"
)

// TestPages walks each list in parts of two, while things are added behind and
// before.
func TestPages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for i := range 5 {
		f.user(t, fmt.Sprint("user", i), "org1")
		f.user(t, fmt.Sprint("other", i), "org2")
		_, _, err := f.CreateClient(t.Context(), admin(), account.Client{Name: fmt.Sprint("c", i), Role: request.RoleObserver, Tenant: "org1"})
		wantCode(t, "client", err, "")
		_, err = f.CreateProject(t.Context(), admin(), account.Project{ID: fmt.Sprint("p-", i), Tenant: "org1", Name: "x"})
		wantCode(t, "project", err, "")
		_, err = f.CreateTenant(t.Context(), admin(), account.Tenant{ID: fmt.Sprint("t", i), Name: "x"})
		wantCode(t, "tenant", err, "")
	}
	ctx := t.Context()
	for _, tt := range []struct {
		name string
		page func(after string) (keys []string, next string, err error)
		want int
	}{
		{"users of one tenant", func(a string) ([]string, string, error) {
			p, err := f.Users(ctx, "org1", a, 2)
			return keys(p, func(u account.User) string { return u.ID }), p.Next, err
		}, 5},
		{"users of all", func(a string) ([]string, string, error) {
			p, err := f.Users(ctx, "*", a, 2)
			return keys(p, func(u account.User) string { return u.ID }), p.Next, err
		}, 10},
		{"clients", func(a string) ([]string, string, error) {
			p, err := f.Clients(ctx, "org1", a, 2)
			return keys(p, func(c account.Client) string { return c.ID }), p.Next, err
		}, 5},
		{"projects of one tenant", func(a string) ([]string, string, error) {
			p, err := f.Projects(ctx, "org1", a, 2)
			return keys(p, func(p account.Project) string { return p.Tenant + "/" + p.ID }), p.Next, err
		}, 6},
		{"projects of all", func(a string) ([]string, string, error) {
			p, err := f.Projects(ctx, "*", a, 2)
			return keys(p, func(p account.Project) string { return p.Tenant + "/" + p.ID }), p.Next, err
		}, 7},
		{"tenants", func(a string) ([]string, string, error) {
			p, err := f.Tenants(ctx, a, 2)
			return keys(p, func(t account.Tenant) string { return t.ID }), p.Next, err
		}, 7},
	} {
		var all []string
		for after, pages := "", 0; ; pages++ {
			part, next, err := tt.page(after)
			if err != nil || pages > tt.want || len(part) > 2 {
				t.Fatalf("%s: page %d behind %q has %d (%v)", tt.name, pages, after, len(part), err)
			}
			all = append(all, part...)
			if after = next; next == "" {
				break
			}
		}
		if len(all) != tt.want || !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != len(all) {
			t.Errorf("%s: got %v, want %d in order", tt.name, all, tt.want)
		}
	}
}

func keys[T any](p account.Page[T], of func(T) string) (out []string) {
	for _, v := range p.Items {
		out = append(out, of(v))
	}
	return out
}

func TestPagesAreBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const fill = `INSERT INTO tenants (id, name) SELECT 'x' || n, 'x' FROM generate_series(1, 300) n`
	if _, err := f.pool.Exec(t.Context(), fill); err != nil {
		t.Fatal(err)
	}
	for limit, want := range map[int]int{-1: 1, 0: 1, 200: 200, 1 << 40: 200} {
		p, err := f.Tenants(t.Context(), "", limit)
		if err != nil || len(p.Items) != want || p.Next == "" {
			t.Errorf("limit %d: got %d (%v), want %d and a next", limit, len(p.Items), err, want)
		}
	}
	_, err := f.Users(t.Context(), "*", "not a position", 10)
	wantCode(t, "users", err, apierr.ValidationInvalid)
	_, err = f.Clients(t.Context(), "*", "not a position", 10)
	wantCode(t, "clients", err, apierr.ValidationInvalid)
	_, err = f.Projects(t.Context(), "*", "not a position", 10)
	wantCode(t, "projects", err, apierr.ValidationInvalid)
}
