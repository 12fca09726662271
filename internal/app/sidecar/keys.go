package sidecar

import (
	"context"
	"time"
)

// keyAgePeriod is how often the metrics learn when keys were last fetched;
// their age is computed at each scrape.
const keyAgePeriod = 10 * time.Second

// watchKeyAges keeps the metric of the keys' age, by issuer of the revision in
// force. Keys from files do not age.
func (a *App) watchKeyAges(ctx context.Context) {
	shown := map[string]bool{}
	tick := time.NewTicker(keyAgePeriod)
	defer tick.Stop()
	for {
		shown = a.showKeyAges(shown)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// showKeyAges returns the issuers that it showed, so that one which is no
// longer configured is forgotten the next time.
func (a *App) showKeyAges(before map[string]bool) map[string]bool {
	fetched := map[string]time.Time{}
	for _, s := range a.keys.Status() {
		fetched[s.Source] = s.Fetched
	}
	now := map[string]bool{}
	if s := a.table.Current(); s != nil {
		for _, i := range s.Set.Issuers {
			if at := fetched[i.JWKS.URL]; !at.IsZero() {
				a.metrics.KeySet(i.Name, at)
				now[i.Name] = true
			}
		}
	}
	for name := range before {
		if !now[name] {
			a.metrics.ForgetKeySet(name)
		}
	}
	return now
}
