package httpapi

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/apierr"
	"gatehouse/internal/request"
)

// store keeps everything in memory by the rules of ports.go. Its methods know
// nothing of who may do what.
type store struct {
	mu       sync.Mutex // guards all below
	users    []account.User
	clients  []account.Client
	tenants  []account.Tenant
	projects []account.Project
	made     int
	by       []request.Principal // who changed something
	password string              // the last one set
	err      error               // answered by all
	block    bool                // wait for the end of the context
	meshStore
	budgetStore
}

var seeded = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func uuid(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

// seed makes two tenants with one of everything.
func (s *store) seed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made, s.err, s.block, s.by, s.password = 100, nil, false, nil, ""
	s.users, s.clients, s.tenants, s.projects = nil, nil, nil, nil
	s.seedMesh()
	s.seedBudget()
	for i, tenant := range []string{"org1", "org2"} {
		s.tenants = append(s.tenants, account.Tenant{ID: tenant, Name: tenant, CreatedAt: seeded, UpdatedAt: seeded, Version: 1})
		s.projects = append(s.projects, account.Project{ID: "proj1", Tenant: tenant, Name: "one", CreatedAt: seeded, UpdatedAt: seeded, Version: 1})
		s.users = append(s.users, account.User{ID: uuid(i + 1), Username: "user-" + tenant, Role: request.RoleDeveloper, Tenant: tenant, CreatedAt: seeded, UpdatedAt: seeded, Version: 1})
		s.clients = append(s.clients, account.Client{ID: uuid(i + 1), Name: "client of " + tenant, Role: request.RoleDeveloper, Tenant: tenant, CreatedAt: seeded, UpdatedAt: seeded, Version: 1})
	}
}

// ask begins a question: it locks, and says how the store fails.
func (s *store) ask(ctx context.Context) (func(), error) {
	s.mu.Lock()
	if s.block {
		s.mu.Unlock()
		<-ctx.Done()
		return func() {}, fmt.Errorf("query: %w", ctx.Err())
	}
	return s.mu.Unlock, s.err
}

func (s *store) change(ctx context.Context, by request.Principal) (func(), error) {
	done, err := s.ask(ctx)
	if err == nil {
		s.by = append(s.by, by)
	}
	return done, err
}

func (s *store) id() string { s.made++; return uuid(s.made) }

func missing() error { return apierr.New(apierr.ResourceNotFound, apierr.Options{}) }

func conflict(reason string) error {
	return apierr.New(apierr.StateConflict, apierr.Options{Details: []apierr.Detail{apierr.Text("reason", reason)}})
}

// matches is how a store bounds what is seen.
func matches(bound, tenant string) bool { return bound == request.AnyTenant || bound == tenant }

func find[T any](items []T, is func(T) bool, version int64, of func(T) int64) (int, error) {
	i := slices.IndexFunc(items, is)
	if i < 0 {
		return 0, missing()
	}
	if version != 0 && of(items[i]) != version {
		return 0, apierr.New(apierr.StatePreconditionFailed, apierr.Options{})
	}
	return i, nil
}

// part is the page of items behind a key.
func part[T any](items []T, in func(T) bool, key func(T) string, after string, limit int) account.Page[T] {
	sorted := slices.SortedFunc(slices.Values(items), func(a, b T) int { return cmp.Compare(key(a), key(b)) })
	var p account.Page[T]
	for _, item := range sorted {
		if !in(item) || key(item) <= after {
			continue
		}
		if len(p.Items) == limit {
			p.Next = key(p.Items[limit-1])
			return p
		}
		p.Items = append(p.Items, item)
	}
	return p
}

func (s *store) CreateUser(ctx context.Context, by request.Principal, u account.User, password string) (account.User, error) {
	done, err := s.change(ctx, by)
	defer done()
	if err != nil {
		return account.User{}, err
	}
	if slices.ContainsFunc(s.users, func(o account.User) bool { return strings.EqualFold(o.Username, u.Username) }) {
		return account.User{}, conflict("already_exists")
	}
	u.ID, u.CreatedAt, u.UpdatedAt, u.Version = s.id(), seeded, seeded, 1
	s.users, s.password = append(s.users, u), password
	return u, nil
}

func (s *store) User(ctx context.Context, tenant, id string) (account.User, error) {
	done, err := s.ask(ctx)
	defer done()
	if err != nil {
		return account.User{}, err
	}
	i, err := find(s.users, func(u account.User) bool { return u.ID == id && matches(tenant, u.Tenant) }, 0, nil)
	if err != nil {
		return account.User{}, err
	}
	return s.users[i], nil
}

func (s *store) Users(ctx context.Context, tenant, after string, limit int) (account.Page[account.User], error) {
	done, err := s.ask(ctx)
	defer done()
	return part(s.users, func(u account.User) bool { return matches(tenant, u.Tenant) }, func(u account.User) string { return u.ID }, after, limit), err
}

func (s *store) UpdateUser(ctx context.Context, by request.Principal, u account.User, password string) (account.User, error) {
	done, err := s.change(ctx, by)
	defer done()
	if err != nil {
		return account.User{}, err
	}
	i, err := find(s.users, func(o account.User) bool { return o.ID == u.ID }, u.Version, func(u account.User) int64 { return u.Version })
	if err != nil {
		return account.User{}, err
	}
	u.Version++
	s.users[i], s.password = u, cmp.Or(password, s.password)
	return u, nil
}

func (s *store) DeleteUser(ctx context.Context, by request.Principal, u account.User) error {
	done, err := s.change(ctx, by)
	defer done()
	if err != nil {
		return err
	}
	i, err := find(s.users, func(o account.User) bool { return o.ID == u.ID }, u.Version, func(u account.User) int64 { return u.Version })
	if err == nil {
		s.users = slices.Delete(s.users, i, i+1)
	}
	return err
}

func (s *store) CreateClient(ctx context.Context, by request.Principal, c account.Client) (account.Client, string, error) {
	done, err := s.change(ctx, by)
	defer done()
	if err != nil {
		return account.Client{}, "", err
	}
	c.ID, c.CreatedAt, c.UpdatedAt, c.Version = s.id(), seeded, seeded, 1
	s.clients = append(s.clients, c)
	return c, "the-secret-of-" + c.ID, nil
}

func (s *store) Client(ctx context.Context, tenant, id string) (account.Client, error) {
	done, err := s.ask(ctx)
	defer done()
	if err != nil {
		return account.Client{}, err
	}
	i, err := find(s.clients, func(c account.Client) bool { return c.ID == id && matches(tenant, c.Tenant) }, 0, nil)
	if err != nil {
		return account.Client{}, err
	}
	return s.clients[i], nil
}

func (s *store) Clients(ctx context.Context, tenant, after string, limit int) (account.Page[account.Client], error) {
	done, err := s.ask(ctx)
	defer done()
	return part(s.clients, func(c account.Client) bool { return matches(tenant, c.Tenant) }, func(c account.Client) string { return c.ID }, after, limit), err
}

func (s *store) UpdateClient(ctx context.Context, by request.Principal, c account.Client) (account.Client, error) {
	done, err := s.change(ctx, by)
	defer done()
	if err != nil {
		return account.Client{}, err
	}
	i, err := find(s.clients, func(o account.Client) bool { return o.ID == c.ID }, c.Version, func(c account.Client) int64 { return c.Version })
	if err != nil {
		return account.Client{}, err
	}
	c.Version++
	s.clients[i] = c
	return c, nil
}

func (s *store) DeleteClient(ctx context.Context, by request.Principal, c account.Client) error {
	done, err := s.change(ctx, by)
	defer done()
	if err != nil {
		return err
	}
	i, err := find(s.clients, func(o account.Client) bool { return o.ID == c.ID }, c.Version, func(c account.Client) int64 { return c.Version })
	if err == nil {
		s.clients = slices.Delete(s.clients, i, i+1)
	}
	return err
}

func (s *store) CreateTenant(ctx context.Context, by request.Principal, t account.Tenant) (account.Tenant, error) {
	done, err := s.change(ctx, by)
	defer done()
	if err != nil {
		return account.Tenant{}, err
	}
	if slices.ContainsFunc(s.tenants, func(o account.Tenant) bool { return o.ID == t.ID }) {
		return account.Tenant{}, conflict("already_exists")
	}
	t.CreatedAt, t.UpdatedAt, t.Version = seeded, seeded, 1
	s.tenants = append(s.tenants, t)
	return t, nil
}

func (s *store) Tenant(ctx context.Context, id string) (account.Tenant, error) {
	done, err := s.ask(ctx)
	defer done()
	if err != nil {
		return account.Tenant{}, err
	}
	i, err := find(s.tenants, func(t account.Tenant) bool { return t.ID == id }, 0, nil)
	if err != nil {
		return account.Tenant{}, err
	}
	return s.tenants[i], nil
}

func (s *store) Tenants(ctx context.Context, after string, limit int) (account.Page[account.Tenant], error) {
	done, err := s.ask(ctx)
	defer done()
	return part(s.tenants, func(account.Tenant) bool { return true }, func(t account.Tenant) string { return t.ID }, after, limit), err
}

func (s *store) UpdateTenant(ctx context.Context, by request.Principal, t account.Tenant) (account.Tenant, error) {
	done, err := s.change(ctx, by)
	defer done()
	if err != nil {
		return account.Tenant{}, err
	}
	i, err := find(s.tenants, func(o account.Tenant) bool { return o.ID == t.ID }, t.Version, func(t account.Tenant) int64 { return t.Version })
	if err != nil {
		return account.Tenant{}, err
	}
	t.Version++
	s.tenants[i] = t
	return t, nil
}

func (s *store) SuspendTenant(ctx context.Context, by request.Principal, t account.Tenant) (account.Tenant, error) {
	return s.UpdateTenant(ctx, by, t)
}

func (s *store) DeleteTenant(ctx context.Context, by request.Principal, t account.Tenant) error {
	done, err := s.change(ctx, by)
	defer done()
	if err != nil {
		return err
	}
	i, err := find(s.tenants, func(o account.Tenant) bool { return o.ID == t.ID }, t.Version, func(t account.Tenant) int64 { return t.Version })
	if err == nil {
		s.tenants = slices.Delete(s.tenants, i, i+1)
	}
	return err
}

func (s *store) CreateProject(ctx context.Context, by request.Principal, p account.Project) (account.Project, error) {
	done, err := s.change(ctx, by)
	defer done()
	if err != nil {
		return account.Project{}, err
	}
	p.CreatedAt, p.UpdatedAt, p.Version = seeded, seeded, 1
	s.projects = append(s.projects, p)
	return p, nil
}

func (s *store) Project(ctx context.Context, tenant, id string) (account.Project, error) {
	done, err := s.ask(ctx)
	defer done()
	if err != nil {
		return account.Project{}, err
	}
	i, err := find(s.projects, func(p account.Project) bool { return p.ID == id && p.Tenant == tenant }, 0, nil)
	if err != nil {
		return account.Project{}, err
	}
	return s.projects[i], nil
}

func (s *store) Projects(ctx context.Context, tenant, after string, limit int) (account.Page[account.Project], error) {
	done, err := s.ask(ctx)
	defer done()
	key := func(p account.Project) string { return p.Tenant + "/" + p.ID }
	return part(s.projects, func(p account.Project) bool { return matches(tenant, p.Tenant) }, key, after, limit), err
}

func (s *store) UpdateProject(ctx context.Context, by request.Principal, p account.Project) (account.Project, error) {
	done, err := s.change(ctx, by)
	defer done()
	if err != nil {
		return account.Project{}, err
	}
	i, err := find(s.projects, func(o account.Project) bool { return o.ID == p.ID && o.Tenant == p.Tenant }, p.Version, func(p account.Project) int64 { return p.Version })
	if err != nil {
		return account.Project{}, err
	}
	p.Version++
	s.projects[i] = p
	return p, nil
}

func (s *store) DeleteProject(ctx context.Context, by request.Principal, p account.Project) error {
	done, err := s.change(ctx, by)
	defer done()
	if err != nil {
		return err
	}
	i, err := find(s.projects, func(o account.Project) bool { return o.ID == p.ID && o.Tenant == p.Tenant }, p.Version, func(p account.Project) int64 { return p.Version })
	if err == nil {
		s.projects = slices.Delete(s.projects, i, i+1)
	}
	return err
}

func count[T any](items []T, in func(T) bool) int64 {
	n := int64(0)
	for _, item := range items {
		if in(item) {
			n++
		}
	}
	return n
}

func (s *store) CountUsers(ctx context.Context, tenant string) (int64, error) {
	done, err := s.ask(ctx)
	defer done()
	return count(s.users, func(u account.User) bool { return matches(tenant, u.Tenant) }), err
}

func (s *store) CountClients(ctx context.Context, tenant string) (int64, error) {
	done, err := s.ask(ctx)
	defer done()
	return count(s.clients, func(c account.Client) bool { return matches(tenant, c.Tenant) }), err
}

func (s *store) CountTenants(ctx context.Context, tenant string) (int64, error) {
	done, err := s.ask(ctx)
	defer done()
	return count(s.tenants, func(t account.Tenant) bool { return matches(tenant, t.ID) }), err
}

func (s *store) CountProjects(ctx context.Context, tenant string) (int64, error) {
	done, err := s.ask(ctx)
	defer done()
	return count(s.projects, func(p account.Project) bool { return matches(tenant, p.Tenant) }), err
}

func (s *store) Ping(ctx context.Context) error {
	done, err := s.ask(ctx)
	defer done()
	return err
}
