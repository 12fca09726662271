package sidecar

import (
	"os"
	"testing"
	"time"
)

// Changes of the folder are noticed however it is laid out.
func TestChangesAreNoticed(t *testing.T) {
	t.Parallel()
	const one, two = "package x\n\nv := 1\n", "package x\n\nv := 2\n"
	cases := map[string]struct {
		prepare, change func(*place)
	}{
		"file":          {func(*place) {}, func(p *place) { p.write("policies/x.rego", two) }},
		"subfolder":     {func(p *place) { p.write("policies/lib/x.rego", one) }, func(p *place) { p.write("policies/lib/x.rego", two) }},
		"new subfolder": {func(*place) {}, func(p *place) { p.write("policies/lib/deep/x.rego", two) }},
		"linked subfolder": {func(p *place) {
			p.write("shared/x.rego", one)
			check(p.t, os.Symlink(p.path("shared"), p.path("policies/lib")))
		}, func(p *place) { p.write("shared/x.rego", two) }},
		"linked file": {func(p *place) {
			p.write("shared/x.rego", one)
			check(p.t, os.Symlink(p.path("shared/x.rego"), p.path("policies/x.rego")))
		}, func(p *place) { p.write("shared/x.rego", two) }},
		"folder swapped by a link": {func(p *place) {
			check(p.t, os.Rename(p.path("policies"), p.path("v1")))
			check(p.t, os.CopyFS(p.path("v2"), os.DirFS(p.path("v1"))))
			p.write("v2/x.rego", two)
			check(p.t, os.Symlink(p.path("v1"), p.path("policies")))
		}, func(p *place) {
			check(p.t, os.Symlink(p.path("v2"), p.path("next")))
			check(p.t, os.Rename(p.path("next"), p.path("policies")))
		}},
		"folder deleted and made again": {func(*place) {}, func(p *place) {
			check(p.t, os.Rename(p.path("policies"), p.path("old")))
			check(p.t, os.CopyFS(p.path("policies"), os.DirFS(p.path("old"))))
			p.write("policies/x.rego", two)
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			c.prepare(p)
			a := p.start(func(a *App) { a.lookPeriod = 300 * time.Millisecond })
			before := a.load.Load().Revision
			c.change(p)
			if p.revision() == before {
				t.Fatal("the change changes nothing")
			}
			a.waitLoaded(t, p.revision())
		})
	}
}

// A folder that something writes to all the time is read all the same, and
// what editors write beside is nobody's change.
func TestBusyFolderIsRead(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	a := p.start()
	next := p.set(9002)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(settle / 4)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				_ = os.WriteFile(p.path("policies/notes.txt"), []byte(time.Now().String()), 0o644)
				_ = os.WriteFile(p.path("policies/.swp"), []byte(time.Now().String()), 0o644)
			}
		}
	}()
	a.waitLoaded(t, next)
	close(stop)
	<-done
}
