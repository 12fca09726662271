package budgets

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"strconv"

	"gatehouse/budget"
	"gatehouse/internal/account"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/request"
)

// Options are what New needs. Ledger must be set.
type Options struct {
	Ledger budget.Store
	Log    *slog.Logger // nil discards
}

// Service asks the ledger. See the package comment.
type Service struct{ o Options }

// New returns a Service.
func New(o Options) (*Service, error) {
	if o.Ledger == nil {
		return nil, errors.New("budgets: needs a ledger")
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	return &Service{o}, nil
}

// attempt is that of all requests of the API: who repeats one means the same.
const attempt = 1

// HoldTokens holds a hold's tokens within a tenant; origin, attempt and hash are
// set here. An id that is known is answered as it was, whatever became of it
// since, and holds nothing anew. Replayed counts beside an error as well.
// Errors: budget.insufficient, state.conflict with the reason key_reused,
// resource.not_found without the tenant or the project, budget.unavailable.
func (s *Service) HoldTokens(ctx context.Context, tenant string, h budget.Hold) (budget.Answer, error) {
	h.Origin, h.Attempt = budget.API, attempt
	h.BodyHash = bodyHash(tenant, h)
	answers, err := s.o.Ledger.Reserve(ctx, tenant, []budget.Hold{h})
	if err != nil {
		return budget.Answer{}, answer(err)
	}
	a := answers[0] // INVARIANT: a store answers each hold
	return a, refusal(a)
}

// bodyHash tells requests of one id apart. It is of what was asked for, not of
// how it was written, nor by whom: defaults count as if they were given.
func bodyHash(tenant string, h budget.Hold) [sha256.Size]byte {
	return sha256.Sum256([]byte(ratelimit.Key( // each part preceded by its length
		tenant, h.Project, strconv.FormatInt(h.Tokens, 10), h.TTL.String(), h.Model, h.Task, h.Purpose,
	)))
}

// SettleTokens commits or releases a hold within a tenant; origin and attempt are
// set here. The same settlement again is answered as before. Errors:
// resource.not_found also of what another project or a sidecar holds;
// state.conflict of what ended otherwise; budget.unavailable.
func (s *Service) SettleTokens(ctx context.Context, tenant string, t budget.Settlement) (budget.Result, error) {
	t.Origin, t.Attempt = budget.API, attempt
	results, err := s.o.Ledger.Settle(ctx, tenant, []budget.Settlement{t})
	if err != nil {
		return budget.Result{}, answer(err)
	}
	r := results[0] // INVARIANT: as above
	if r.Replayed {
		return r, nil
	}
	return r, unsettled(r.Outcome)
}

// BudgetUsage returns where the open limits stand that apply to a project, or
// with "" those of the tenant alone.
func (s *Service) BudgetUsage(ctx context.Context, tenant, project string) ([]budget.Usage, error) {
	all, err := s.o.Ledger.Usage(ctx, tenant, project)
	return all, answer(err)
}

// BudgetLines returns a page of the journal, the newest first.
func (s *Service) BudgetLines(ctx context.Context, tenant string, q budget.Query) (account.Page[budget.Line], error) {
	p, err := s.o.Ledger.Journal(ctx, tenant, q)
	return p, answer(err)
}

// CreateBudgetLimit makes a limit of its scope, window, zone and tokens. Errors:
// state.conflict with the reason already_exists where the scope has one for the
// window; validation.invalid, of a zone that is not known.
func (s *Service) CreateBudgetLimit(ctx context.Context, by request.Principal, l budget.Limit) (budget.Limit, error) {
	made, err := s.o.Ledger.CreateLimit(ctx, by, l)
	return made, answer(err)
}

// BudgetLimit returns a limit that is open, or waits for its last holds.
func (s *Service) BudgetLimit(ctx context.Context, tenant, id string) (budget.Limit, error) {
	l, err := s.o.Ledger.Limit(ctx, tenant, id)
	return l, answer(err)
}

// BudgetLimits returns a page of a tenant's limits, by id.
func (s *Service) BudgetLimits(ctx context.Context, tenant, after string, limit int) (account.Page[budget.Limit], error) {
	p, err := s.o.Ledger.Limits(ctx, tenant, after, limit)
	return p, answer(err)
}

// UpdateBudgetLimit sets a limit's tokens if its version is in force, else
// state.precondition_failed.
func (s *Service) UpdateBudgetLimit(ctx context.Context, by request.Principal, l budget.Limit) (budget.Limit, error) {
	now, err := s.o.Ledger.SetLimit(ctx, by, l.Tenant, l.ID, l.Version, l.Tokens)
	return now, answer(err)
}

// DeleteBudgetLimit closes a limit if its version is in force or 0, else
// state.precondition_failed.
func (s *Service) DeleteBudgetLimit(ctx context.Context, by request.Principal, l budget.Limit) error {
	return answer(s.o.Ledger.DeleteLimit(ctx, by, l.Tenant, l.ID, l.Version))
}
