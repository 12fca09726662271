package sidecar

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"gatehouse/internal/ads"
	"gatehouse/internal/revision"
	"gatehouse/internal/snapshot"
)

// loadState is what became of the last attempt to load the policy folder.
// It is replaced as a whole.
type loadState struct {
	Revision string    `json:"revision"` // the newest accepted
	Time     time.Time `json:"time"`     // of the last attempt
	Error    string    `json:"error,omitempty"`

	read string // what the folder held then: a revision, or why it can't be read
}

// restore serves what the last process served, before anything else: its
// Envoy holds these routes, and requests may wait for their Check.
func (a *App) restore(ctx context.Context) {
	if a.control != nil {
		if err := a.control.restore(); err != nil {
			a.log.Error("what control said to the last process can't be used", "error", err)
		}
	}
	saved, err := a.store.Load()
	if err != nil {
		a.log.Error("the saved policy sets can't be used", "error", err)
		return
	}
	if saved == nil {
		return
	}
	if saved.Lost != nil {
		a.log.Error("part of what was saved is lost", "error", saved.Lost)
	}
	until := saved.ReplacedAt.Add(a.opts.Grace)
	if saved.Previous.Files != nil && time.Now().Before(until) && a.mayServe(saved.Previous) == nil {
		if s, err := a.builder.Build(ctx, saved.Previous.Files); err == nil {
			a.know(s)
			a.ads.Restore(until, s.Resources)
		}
	}
	err = a.mayServe(saved.Current)
	if err == nil {
		err = a.push(ctx, saved.Current.Files)
	}
	if err != nil {
		a.log.Error("the saved policy set can't be used", "error", err)
	}
}

// mayServe says whether a saved set may be served again. At a sidecar with
// control, what control did not sign may not: whoever wrote it there.
func (a *App) mayServe(s snapshot.Accepted) error {
	if a.control == nil {
		return nil
	}
	return a.control.restored(s)
}

// loadPolicies reads the policy folder. A set that is refused leaves the one
// in force, and says why.
func (a *App) loadPolicies(ctx context.Context) {
	files, err := snapshot.Read(a.opts.Policies, os.Geteuid())
	a.take(ctx, files, err)
}

// lookAtPolicies reads the folder and takes it only if it holds something else
// than the last time: what was refused then is not tried again and again.
func (a *App) lookAtPolicies(ctx context.Context) {
	files, err := snapshot.Read(a.opts.Policies, os.Geteuid())
	if held(files, err) != a.load.Load().read {
		a.take(ctx, files, err)
	}
}

// held names what a reading found.
func held(files revision.Files, err error) string {
	if err != nil {
		return err.Error()
	}
	return revision.ID(files)
}

func (a *App) take(ctx context.Context, files revision.Files, err error) {
	found := held(files, err)
	// Noted before the push: what Envoy says of the set may come at once, and
	// is not to be wiped out.
	a.note(func(s *loadState) { s.Time, s.Error, s.read = time.Now(), "", found })
	if err == nil {
		err = a.push(ctx, files)
	}
	if err != nil {
		a.refuse(err)
	}
}

// refuse notes that a set was not taken.
func (a *App) refuse(err error) {
	a.metrics.RevisionLoaded(err)
	a.note(func(s *loadState) { s.Error = err.Error() })
	a.log.Error("the policy set is refused; the one before stays in force", "in_force", a.inForce(), "error", err)
}

// push compiles a set and hands it to the switch, which makes Check know it
// before Envoy does.
func (a *App) push(ctx context.Context, files revision.Files) error {
	id := revision.ID(files)
	if a.load.Load().Revision == id {
		a.metrics.RevisionLoaded(nil)
		return nil
	}
	s, err := a.builder.Build(ctx, files)
	if err != nil {
		return err
	}
	a.metrics.RevisionLoaded(nil)
	a.note(func(l *loadState) { l.Revision = id })
	a.ads.Push(s.Resources, func() { a.know(s) })
	return nil
}

func (a *App) know(s *snapshot.Snapshot) {
	a.table.Add(s)
	a.metrics.Revisions(a.table.Revisions()...)
}

func (a *App) note(edit func(*loadState)) {
	a.loadMu.Lock()
	defer a.loadMu.Unlock()
	next := *a.load.Load()
	edit(&next)
	a.load.Store(&next)
}

func (a *App) inForce() string {
	if s := a.table.Current(); s != nil {
		return s.Revision
	}
	return ""
}

func (a *App) adsOptions() ads.Options {
	return ads.Options{
		Grace:   a.opts.Grace,
		Log:     a.log,
		Active:  a.activated,
		Taken:   a.taken,
		Failed:  a.failed,
		Dropped: a.dropped,
		Nacked:  func(resourceType, _ string) { a.metrics.Nack(resourceType) },
		Retired: a.metrics.RetiredClusters,
	}
}

func (a *App) activated(revision string) {
	before := a.inForce()
	a.table.SetCurrent(revision)
	if before != revision {
		a.log.Info("policy revision in force", "revision", revision, "before", before)
	}
}

// taken: Envoy said that it has the revision's routes. It is saved from here
// on. Dying before the save, the next process serves the set before and then
// this one.
func (a *App) taken(revision string) {
	s, ok := a.table.Lookup(revision)
	if !ok {
		return
	}
	set := snapshot.Accepted{Files: s.Files}
	if a.control != nil {
		set.Signed = a.control.taken(revision)
	}
	a.storeMu.Lock()
	defer a.storeMu.Unlock()
	if err := a.store.Accept(set, time.Now()); err != nil {
		a.log.Error("the accepted policy set can't be saved", "revision", revision, "error", err)
	}
}

func (a *App) failed(revision, reason string) {
	a.metrics.RevisionLoaded(errors.New(reason))
	if a.control != nil {
		a.control.failed(revision, reason)
	}
	a.table.Withdraw(revision)
	a.note(func(s *loadState) {
		// A newer set may have been pushed since: what it becomes is still open.
		if s.Revision == revision {
			s.Revision = a.inForce() // so that the refused set is tried again when it is written again
		}
		s.Error = fmt.Sprintf("revision %.12s: %s", revision, reason)
	})
	a.log.Error("Envoy refused the policy set; the one before stays in force", "revision", revision, "in_force", a.inForce(), "error", reason)
}

func (a *App) dropped(revision string) {
	a.table.Remove(revision)
	a.metrics.Revisions(a.table.Revisions()...)
}

// Status is what /status shows.
type Status struct {
	Name      string     `json:"name"`
	Revision  string     `json:"revision"` // in force
	Loaded    *loadState `json:"loaded"`
	Revisions []string   `json:"revisions"` // that requests can match
	Envoy     ads.Status `json:"envoy"`
	Keys      any        `json:"keys"`

	Control *ControlStatus `json:"control,omitempty"`
}

// Status shows what is in force, what was refused, and what Envoy says of it.
func (a *App) Status() Status {
	st := Status{
		Name: a.sidecar.Name, Revision: a.inForce(), Loaded: a.load.Load(),
		Revisions: slices.Sorted(slices.Values(a.table.Revisions())), Envoy: a.ads.Status(), Keys: a.keys.Status(),
	}
	if a.control != nil {
		st.Control = a.control.status()
	}
	return st
}

// Ready is nil when a policy is in force at an Envoy that took it whole.
func (a *App) Ready() error {
	switch st := a.ads.Status(); {
	case a.table.Current() == nil:
		return fmt.Errorf("no policy set is loaded: %s", a.load.Load().Error)
	case st.Connected == 0:
		return errors.New("Envoy is not connected")
	case len(st.Nacks) > 0:
		return fmt.Errorf("Envoy refused %s %s: %s", st.Nacks[0].Type, st.Nacks[0].Resource, st.Nacks[0].Reason)
	}
	return nil
}
