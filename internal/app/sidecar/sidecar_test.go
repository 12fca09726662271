package sidecar

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"gatehouse/internal/config"
	"gatehouse/internal/envoytest"
	"gatehouse/internal/revision"
	"gatehouse/internal/snapshot"
)

func (a *App) waitInForce(t *testing.T, revision string) {
	t.Helper()
	envoytest.Eventually(t, "revision "+revision[:8]+" is in force", func() bool { return a.inForce() == revision })
}

func (a *App) waitLoaded(t *testing.T, revision string) {
	t.Helper()
	envoytest.Eventually(t, "revision "+revision[:8]+" is pushed", func() bool { return a.load.Load().Revision == revision })
}

// A in force, B on its way, C waits; Envoy refuses B and takes C. Writing A
// again must bring A back.
func TestRollbackAfterARefusedSet(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	first := p.revision()
	a, e := p.start(), p.connect()
	e.agree(3)
	second := p.set(9002)
	clusters := <-e.got
	a.waitLoaded(t, second)
	third := p.set(9003)
	a.waitLoaded(t, third)
	e.answer(clusters, "no thanks")
	e.agreeToAll()
	a.waitInForce(t, third)
	p.set(9001)
	a.waitInForce(t, first)
}

// What Envoy refuses is said, and tried again when it is written again.
func TestRefusedSetIsTriedAgain(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	first := p.revision()
	a, e := p.start(), p.connect()
	e.agree(3)
	second := p.set(9002)
	e.answer(<-e.got, "not this one")
	envoytest.Eventually(t, "the refusal is shown", func() bool { return strings.Contains(a.Status().Loaded.Error, "not this one") })
	if a.inForce() != first {
		t.Fatalf("%.8s is in force", a.inForce())
	}
	a.lookAtPolicies(t.Context())
	if a.load.Load().Revision != first || a.Status().Loaded.Error == "" {
		t.Error("a look at an unchanged folder tried the refused set again")
	}
	e.agreeToAll()
	a.Reload()
	a.waitInForce(t, second)
}

// A sidecar whose gate is gone ends, so that it is started again: it would
// refuse everything for ever.
func TestRunEndsWithTheGate(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	a := p.start()
	check(t, a.gate.Close())
	envoytest.Eventually(t, "the end is told", func() bool { return len(a.broken) == 1 })
}

// Only what Envoy took is saved: a set that it refuses at first start must not
// become the last good one.
func TestOnlyWhatEnvoyTookIsSaved(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	a, e := p.start(), p.connect()
	for range 3 {
		r := <-e.got
		if r.GetTypeUrl() == resource.RouteType {
			if saved, err := a.store.Load(); saved != nil || err != nil {
				t.Fatalf("saved before Envoy said anything: %v", err)
			}
		}
		e.answer(r, "")
	}
	envoytest.Eventually(t, "it is saved", func() bool {
		saved, err := a.store.Load()
		return err == nil && saved != nil && revision.ID(saved.Current.Files) == p.revision()
	})
}

// An Envoy with the static rendering takes no part in a switch: it is answered
// by the newest set that was loaded, also after a restart.
func TestStaticEnvoyGetsTheNewestSet(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	a := p.start()
	for _, port := range []int{9002, 9003} {
		next := p.set(port)
		envoytest.Eventually(t, "the newest set answers", func() bool {
			s, ok := a.table.Lookup("current")
			return ok && s.Revision == next
		})
	}
	a.Stop(context.Background())
	b := p.start()
	if s, ok := b.table.Lookup("current"); !ok || s.Revision != p.revision() {
		t.Errorf("after a restart another set answers")
	}
}

// A revision whose timer ends while it is on its way back must be known to
// Check when Envoy is given it: know comes last before Envoy is told.
func TestPushAfterADropIsKnown(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	first := p.revision()
	a := p.start()
	a.waitInForce(t, first)
	p.connect().agreeToAll()
	a.waitInForce(t, p.set(9002))
	p.set(9001)
	files, err := snapshot.Read(p.path("policies"), os.Geteuid())
	check(t, err)
	again, err := a.builder.Build(t.Context(), files)
	check(t, err)
	a.ads.Push(again.Resources, func() {
		a.dropped(first)
		a.know(again)
	})
	a.waitInForce(t, first)
	if _, ok := a.table.Lookup(first); !ok {
		t.Error("Envoy has a revision that Check does not know")
	}
}

// The socket's folder belongs to Envoy's uid. What that uid swaps under the
// socket's name while root's sidecar starts must not be given to it.
func TestGateGivesNothingElseAway(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away: run as root")
	}
	dir := t.TempDir()
	victim, run := filepath.Join(dir, "victim"), filepath.Join(dir, "run")
	check(t, os.WriteFile(victim, []byte("root's"), 0o600))
	check(t, os.Mkdir(run, 0o700))
	sc := &config.Sidecar{Socket: filepath.Join(run, "gate.sock"), EnvoyUID: 4242}
	var stop atomic.Bool
	swapped := make(chan struct{})
	go func() { // as Envoy's uid would: only while the folder is its own
		defer close(swapped)
		fresh := sc.Socket + ".new"
		for !stop.Load() {
			if info, err := os.Stat(run); err != nil || info.Sys().(*syscall.Stat_t).Uid != 4242 {
				continue
			}
			_ = os.Remove(fresh)
			_ = os.Symlink(victim, fresh)
		}
	}()
	for range 200 {
		if g, err := openGate(sc, nil); err == nil {
			_ = g.Close()
		}
	}
	stop.Store(true)
	<-swapped
	info, err := os.Stat(victim)
	check(t, err)
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid != 0 || info.Mode().Perm() != 0o600 {
		t.Errorf("root's file has uid %d and mode %v", uid, info.Mode())
	}
	info, err = os.Stat(run)
	check(t, err)
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid != 4242 || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has uid %d and mode %v", uid, info.Mode())
	}
}

func TestFoldersOfOthersAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	check(t, os.Mkdir(filepath.Join(dir, "real"), 0o755))
	check(t, os.Symlink("real", filepath.Join(dir, "link")))
	if err := ownFolder(filepath.Join(dir, "link"), 0o700, os.Geteuid(), os.Geteuid()); err == nil {
		t.Error("a link was followed")
	}
	if err := ownFolder(filepath.Join(dir, "real"), 0o700, os.Geteuid()+1, os.Geteuid()+2); err == nil {
		t.Error("a folder of somebody else was taken")
	}
}
