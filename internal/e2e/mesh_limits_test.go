package e2e

import (
	"bytes"
	"crypto/rand"
	"runtime/pprof"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/envoytest"
	"gatehouse/internal/redistest"
)

// A limit of the mesh is one limit for the sidecars of all replicas. Without
// its counters each sidecar counts its share, everything else goes on, and they
// are used again when they are back.
func TestMeshLimits(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	m := newMesh(t, meshOptions{Replicas: 2, Redis: redis.URL()})
	a, b := m.replicas[0], m.replicas[1]
	a.put(m, m.set(1))
	left := m.join(a.admin, joining{Name: "left", Via: a.mesh()})
	right := m.join(a.admin, joining{Name: "right", Via: b.mesh()})

	envoytest.Eventually(t, "they count together", func() bool { return m.sixTogether(left, right) })
	redis.Kill()
	m.sharesOf("Redis killed", left, right)
	redis.Restart()
	m.countedTogether("Redis is back", left, right)
	redis.Stop()
	m.sharesOf("Redis stopped", left, right)
	m.crowd(left, crowdLimit/2, crowdLimit/2)
	redis.Cont()
	m.countedTogether("Redis goes on", left, right)
}

// someone is the token of a principal that has used up nothing.
func (m *mesh) someone() string {
	c := m.outside.Claims(time.Now(), "developer", "org1")
	c["sub"] = rand.Text()
	return m.outside.Mint(c)
}

// sixTogether reports whether of someone's requests, by turns at each sidecar,
// six pass and the next are refused at both. A slow machine may have one of
// them counted by its sidecar alone.
func (m *mesh) sixTogether(members ...*member) bool {
	m.t.Helper()
	someone := m.someone()
	for i := range 6 {
		if members[i%len(members)].ask("GET", "/shared", someone).Status != 200 {
			return false
		}
	}
	for _, n := range members {
		got := n.ask("GET", "/shared", someone)
		if got.Status == 200 {
			return false
		}
		n.want("the seventh of six", got, 429, "rate_limit.exceeded")
	}
	return true
}

// passes is how many requests of someone pass before one is refused.
func (n *member) passes(token string) int {
	n.t.Helper()
	for i := range 20 {
		got := n.ask("GET", "/shared", token)
		if got.Status != 200 {
			n.want("what is too much", got, 429, "rate_limit.exceeded")
			return i
		}
	}
	n.t.Fatalf("nothing limits %s", n.name)
	return 0
}

// sharesOf waits until each sidecar counts half of the limit: they know that
// they are two.
func (m *mesh) sharesOf(when string, members ...*member) {
	m.t.Helper()
	for _, n := range members {
		envoytest.Eventually(m.t, when+": "+n.name+" counts its share", func() bool { return n.passes(m.someone()) == 3 })
		n.want(when+": another route", n.ask("GET", "/tasks", m.someone()), 200, "")
		n.want(when+": the other limit", n.ask("GET", "/few", m.someone()), 200, "")
	}
}

// countedTogether waits until the limit counts for both: at one alone more than
// its share passes, and nothing is left at the other.
func (m *mesh) countedTogether(when string, one, other *member) {
	m.t.Helper()
	envoytest.Eventually(m.t, when+": they count together", func() bool {
		someone := m.someone()
		return one.passes(someone) == 6 && other.passes(someone) == 0
	})
}

// crowdLimit is the burst of the limit crowd.
const crowdLimit = 60

// crowd sends many requests at once while the counters answer nothing. As many
// pass as the sidecar's share is, from least to most; none of them waits long, and none is left
// behind in control or in the sidecar.
func (m *mesh) crowd(n *member, least, most int) {
	m.t.Helper()
	const requests, within = 200, 2 * time.Second
	someone := m.someone()
	replies, took := make([]reply, requests), make([]time.Duration, requests)
	var wg sync.WaitGroup
	for i := range requests {
		wg.Go(func() {
			begin := time.Now()
			replies[i] = n.ask("GET", "/crowd", someone)
			took[i] = time.Since(begin)
		})
	}
	wg.Wait()
	passed, longest := 0, time.Duration(0)
	for i, r := range replies {
		longest = max(longest, took[i])
		if r.Status == 200 {
			passed++
			continue
		}
		n.want("one of a crowd", r, 429, "rate_limit.exceeded")
	}
	m.t.Logf("of %d at once %d passed, the longest took %v", requests, passed, longest)
	if refilled := 3; passed < least || passed > most+refilled || longest > within { // one a second
		m.t.Errorf("of %d at once %d passed, the longest took %v; want %d to %d within %v", requests, passed, longest, least, most, within)
	}
	envoytest.Eventually(m.t, "nobody waits for the counters any more", func() bool { return waiting() == 0 })
}

// waiting is how many goroutines of this process wait for a rate to be decided.
func waiting() int {
	var b bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&b, 2) // to memory
	return bytes.Count(b.Bytes(), []byte("control/rates.(*Rates).ask")) + bytes.Count(b.Bytes(), []byte("meshlimit.(*Limits).ask"))
}
