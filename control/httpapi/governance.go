package httpapi

import (
	"context"

	apiv1 "gatehouse/api/v1"
	"gatehouse/internal/account"
)

// GetGovernanceStatus tells what agents may learn now. Rules are of agent roles
// and count over all tenants, so that its tenancy is none.
func (a *api) GetGovernanceStatus(ctx context.Context, _ apiv1.GetGovernanceStatusRequestObject) (apiv1.GetGovernanceStatusResponseObject, error) {
	rules, err := a.opts.Governance.GovernanceStatus(ctx)
	if err != nil {
		return nil, err
	}
	return apiv1.GetGovernanceStatus200JSONResponse{Items: each(rules, showRule)}, nil
}

func showRule(r account.GovernanceRule) apiv1.GovernanceRule {
	return apiv1.GovernanceRule{
		AgentRole: r.AgentRole, DailyLimit: r.DailyLimit, CooldownSeconds: int64(r.Cooldown.Seconds()),
		RequiresApproval: r.RequiresApproval, Locked: r.Locked, LockedReason: r.LockedReason,
		UpdatesToday: r.UpdatesToday, RemainingToday: r.RemainingToday, Pending: r.Pending,
		LastUpdateAt: known(r.LastUpdateAt), NextUpdateAt: known(r.NextUpdateAt),
		Refusal: apiv1.GovernanceRuleRefusal(r.Refusal), CanAutoUpdate: r.CanAutoUpdate,
	}
}
