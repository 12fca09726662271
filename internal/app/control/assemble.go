package control

import (
	"context"

	budgetpg "gatehouse/budget/postgres"
	"gatehouse/control/accounts"
	"gatehouse/control/auth"
	authpg "gatehouse/control/auth/postgres"
	"gatehouse/control/breakers"
	breakerspg "gatehouse/control/breakers/postgres"
	"gatehouse/control/budgets"
	"gatehouse/control/decisions"
	dlqpg "gatehouse/control/dlq/postgres"
	"gatehouse/control/httpapi"
	"gatehouse/control/mesh"
	"gatehouse/control/rates"
	"gatehouse/control/rollout"
	rolloutpg "gatehouse/control/rollout/postgres"
	"gatehouse/control/sync"
)

// assemble makes the parts in the order in which they need each other.
func (a *App) assemble(ctx context.Context) error {
	for _, make := range []func(context.Context) error{a.makeAccounts, a.makeMesh, a.makeBreakers, a.makeBudgets, a.makeAPI, a.makeSync, a.makeDebug} {
		if err := make(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (a *App) makeAccounts(context.Context) (err error) {
	c := a.opts.Config
	a.auth, err = auth.New(auth.Options{
		Store: authpg.New(a.pool), Box: c.Box, Hasher: a.hasher, Lockout: c.Lockout, Issuer: c.Issuer, Log: a.log,
		RequestID: httpapi.RequestID,
	})
	if err != nil {
		return err
	}
	a.stores, err = accounts.New(accounts.Options{
		Pool: a.pool, HashPassword: a.hasher.HashNew, NewSecret: auth.NewClientSecret, RequestID: httpapi.RequestID,
	})
	return err
}

func (a *App) makeMesh(context.Context) (err error) {
	a.rollout, err = rollout.New(rollout.Options{
		Store: rolloutpg.New(a.pool, httpapi.RequestID), Box: a.opts.Config.Box, Log: a.log,
	})
	if err != nil {
		return err
	}
	if a.mesh, err = mesh.New(mesh.Options{Pool: a.pool, Keys: a.rollout.Keys, RequestID: httpapi.RequestID, Log: a.log}); err != nil {
		return err
	}
	if a.decisions, err = decisions.New(decisions.Options{Pool: a.pool}); err != nil {
		return err
	}
	if a.rates, err = rates.New(rates.Options{URL: a.opts.Config.Redis, Log: a.log}); err != nil {
		return wrap("REDIS_URL", err)
	}
	a.undo = append(a.undo, func() { _ = a.rates.Close() })
	return nil
}

func (a *App) makeBreakers(context.Context) (err error) {
	a.breakers, err = breakers.New(breakers.Options{Store: breakerspg.New(a.pool, httpapi.RequestID), Log: a.log})
	return err
}

func (a *App) makeBudgets(context.Context) error {
	ledger, err := budgetpg.New(budgetpg.Options{Pool: a.pool, RequestID: httpapi.RequestID})
	if err != nil {
		return err
	}
	if a.budgets, err = budgets.New(budgets.Options{Ledger: ledger, Log: a.log}); err != nil {
		return err
	}
	letters, err := dlqpg.New(dlqpg.Options{Pool: a.pool, Box: a.opts.Config.Box})
	if err != nil {
		return err
	}
	a.inline, err = budgets.NewInline(budgets.InlineOptions{Ledger: ledger, Letters: letters, Silence: ledger, Log: a.log})
	return err
}

func (a *App) makeAPI(ctx context.Context) error {
	c := a.opts.Config
	o := httpapi.Options{
		Auth: a.auth, Users: a.stores, Clients: a.stores, Tenants: a.stores, Projects: a.stores, Counts: a.stores,
		Agents: a.stores, Governance: a.stores, Revocations: a.stores,
		Sidecars: a.mesh, Policies: a.rollout, Decisions: a.decisions, Budgets: a.budgets, Breakers: a.breakers,
		Answers:  answers{},
		Database: a.pool, Metrics: a.metrics, Log: a.log, Version: a.opts.Version, CORSOrigins: c.CORSOrigins,
		CursorKey: c.Box.MAC(cursorUse, nil),
	}
	if c.Limits != nil {
		o.Limits = *c.Limits
	}
	handler, err := httpapi.New(ctx, o)
	if err != nil {
		return err
	}
	a.server, err = httpapi.NewServer(httpapi.ServerOptions{
		Address: c.Address, Handler: handler, Log: a.log, CertFile: c.CertFile, KeyFile: c.KeyFile,
	})
	return err
}

// makeSync makes the service for sidecars, where there is a certificate for it.
func (a *App) makeSync(context.Context) (err error) {
	c := a.opts.Config
	if c.Mesh == "" {
		return nil
	}
	a.sync, err = sync.New(sync.Options{
		Registry: a.mesh, Source: a.mesh, Records: a.decisions, Rates: a.rates, Breakers: a.breakers, Ledger: a.inline, KeySet: a.auth.KeySet, Log: a.log,
		Address: c.Mesh, CertFile: c.MeshCertFile, KeyFile: c.MeshKeyFile,
	})
	return err
}
