package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// seen is one request as the upstream received it.
type seen struct {
	Method, Target, Host string
	Header               http.Header
	Body                 string
}

// upstream answers 200 to everything, unless it fails, and remembers what reached it.
type upstream struct {
	*httptest.Server
	name string

	mu    sync.Mutex
	count int
	last  seen
	next  *pause // of the next request; nil: it is answered at once
	fails bool
}

// pause is a request that is not answered yet.
type pause struct{ begun, end chan struct{} }

// hold makes the next request wait. begun is closed when it is here; it is
// answered when end is closed.
func (u *upstream) hold() *pause {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.next = &pause{make(chan struct{}), make(chan struct{})}
	return u.next
}

const maxUpstreamBody = 4 << 20

func newUpstream(t testing.TB, name string) *upstream {
	t.Helper()
	u := &upstream{name: name}
	u.Server = httptest.NewServer(u)
	t.Cleanup(u.Close)
	return u
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, maxUpstreamBody))
	u.mu.Lock()
	u.count++
	u.last = seen{Method: r.Method, Target: r.RequestURI, Host: r.Host, Header: r.Header.Clone(), Body: string(body)}
	p, fails := u.next, u.fails
	u.next = nil
	u.mu.Unlock()
	if p != nil {
		close(p.begun)
		<-p.end
	}
	if fails {
		http.Error(w, "broken", http.StatusInternalServerError)
		return
	}
	w.Header().Set("x-upstream", u.name)
	w.Header().Set("x-seen-revision", r.Header.Get("x-revision"))
	_, _ = io.WriteString(w, u.name)
}

// fail says whether it answers 500 from now on.
func (u *upstream) fail(yes bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.fails = yes
}

// Count is the number of requests that reached the upstream.
func (u *upstream) Count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.count
}

// Last is the newest request that reached it.
func (u *upstream) Last() seen {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.last
}
