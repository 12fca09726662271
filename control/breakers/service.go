package breakers

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/apierr"
	"gatehouse/internal/mesh"
	"gatehouse/internal/request"
)

// ErrUnavailable says that the Store is away; what was asked of it may have been
// done.
var ErrUnavailable = errors.New("the store of breakers is away")

// Store keeps what sidecars report of their breakers, and those of the mesh. Its
// methods are safe for concurrent use, by several replicas.
type Store interface {
	// Report keeps the newest reports, by sidecar. Those of sidecars that are
	// unknown or revoked, and of an older process of one whose newer process spoke
	// lately, are passed over.
	Report(ctx context.Context, reports map[string]mesh.BreakerReport) error

	// Orders returns all orders, by policy set.
	Orders(ctx context.Context) (map[string][]mesh.BreakerOrder, error)

	// Troubled says whether a breaker is not closed, at a sidecar that reported
	// after since or in the mesh.
	Troubled(ctx context.Context, since time.Time) (bool, error)

	// Review has what sidecars reported after since judged, and keeps what comes of
	// it, with an event for each breaker that turned. While one review is under way,
	// another does nothing.
	Review(ctx context.Context, since time.Time, judge func([]mesh.BreakerReport, []Standing) Outcome) error

	// List returns a page of the breakers of policy sets that sidecars of a tenant
	// follow, or shared ones, by policy set and name. request.AnyTenant is all.
	List(ctx context.Context, tenant string, f mesh.BreakerFilter, after string, limit int) (account.Page[mesh.Breaker], error)

	// Reset changes the breakers that f selects as step says, with an audit row,
	// and an event for each that turned. It returns them as they are then.
	Reset(ctx context.Context, by request.Principal, f mesh.BreakerFilter, step func(Standing) Standing) ([]mesh.Breaker, error)
}

// Options are what New needs. Store must be set.
type Options struct {
	Store Store
	Log   *slog.Logger     // nil discards
	Now   func() time.Time // nil means time.Now
}

// Service keeps the breakers of the mesh. See the package comment.
type Service struct{ o Options }

// New returns a Service.
func New(o Options) (*Service, error) {
	if o.Store == nil {
		return nil, errors.New("breakers: needs a store")
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Service{o}, nil
}

// ReportBreakers keeps what sidecars say of their breakers, by their ids.
func (s *Service) ReportBreakers(ctx context.Context, reports map[string]mesh.BreakerReport) error {
	return s.o.Store.Report(ctx, reports)
}

// BreakerOrders returns what sidecars are ordered, by policy set: for each set at
// most mesh.MaxBreakers, by name.
func (s *Service) BreakerOrders(ctx context.Context) (map[string][]mesh.BreakerOrder, error) {
	return s.o.Store.Orders(ctx)
}

// Breakers returns a page of the breakers that a tenant's requests may meet.
func (s *Service) Breakers(ctx context.Context, tenant string, f mesh.BreakerFilter, after string, limit int) (account.Page[mesh.Breaker], error) {
	p, err := s.o.Store.List(ctx, tenant, f, after, limit)
	return p, answer(err)
}

// ResetBreaker closes a breaker, in the mesh and at each sidecar of its policy
// set, connected now or later. It can be repeated. Errors: resource.not_found.
func (s *Service) ResetBreaker(ctx context.Context, by request.Principal, set, name string) (mesh.Breaker, error) {
	all, err := s.reset(ctx, by, mesh.BreakerFilter{PolicySet: set, Name: name})
	if err != nil {
		return mesh.Breaker{}, err
	}
	if len(all) == 0 {
		return mesh.Breaker{}, apierr.Missing()
	}
	return all[0], nil
}

// ResetBreakers closes all breakers of a policy set, or with "" of all, and
// returns how many.
func (s *Service) ResetBreakers(ctx context.Context, by request.Principal, set string) (int, error) {
	all, err := s.reset(ctx, by, mesh.BreakerFilter{PolicySet: set})
	return len(all), err
}

func (s *Service) reset(ctx context.Context, by request.Principal, f mesh.BreakerFilter) ([]mesh.Breaker, error) {
	now := s.o.Now()
	all, err := s.o.Store.Reset(ctx, by, f, func(b Standing) Standing { return b.Close(now) })
	return all, answer(err)
}

// statusAway is the HTTP status of an answer without a store.
const statusAway = 503

// answer gives an error its code.
func answer(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*apierr.Error](err); ok {
		return e
	}
	o := apierr.Options{Cause: err}
	if errors.Is(err, ErrUnavailable) {
		o.Status = statusAway
	}
	return apierr.New(apierr.Internal, o)
}
