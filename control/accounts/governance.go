package accounts

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"gatehouse/internal/account"
)

// The rules are of agent roles and hold for all tenants together.
const selectGovernance = `
SELECT agent_role, daily_limit, extract(epoch FROM cooldown)::bigint, requires_approval, locked, coalesce(locked_reason, ''),
	updates_today, remaining_today, last_update_at, next_update_at, pending, coalesce(refusal, ''), can_auto_update
FROM governance_status ORDER BY agent_role COLLATE "C" LIMIT $1`

func scanRule(r pgx.CollectableRow) (g account.GovernanceRule, err error) {
	var cooldown int64 // seconds
	var last, next pgtype.Timestamptz
	err = r.Scan(&g.AgentRole, &g.DailyLimit, &cooldown, &g.RequiresApproval, &g.Locked, &g.LockedReason,
		&g.UpdatesToday, &g.RemainingToday, &last, &next, &g.Pending, &g.Refusal, &g.CanAutoUpdate)
	g.Cooldown, g.LastUpdateAt, g.NextUpdateAt = time.Duration(cooldown)*time.Second, last.Time, next.Time
	return g, err
}

// GovernanceStatus returns the rules of what agents may learn and where they
// stand, by role: the first 200.
func (s *Store) GovernanceStatus(ctx context.Context) ([]account.GovernanceRule, error) {
	rows, err := s.o.Pool.Query(ctx, selectGovernance, maxPage)
	if err != nil {
		return nil, answer(err)
	}
	rules, err := pgx.CollectRows(rows, scanRule)
	return rules, answer(err)
}
