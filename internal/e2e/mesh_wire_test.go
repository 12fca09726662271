package e2e

import (
	"net"
	"sync"
	"testing"
)

// wire is a TCP proxy that can be cut, refuse, and stand still. It is healed at
// first.
type wire struct {
	listener net.Listener
	to       string

	mu      sync.Mutex // guards all below
	changed *sync.Cond
	refuse  bool
	stalled bool
	conns   map[net.Conn]struct{}
}

func newWire(t testing.TB, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w := &wire{listener: l, to: to, conns: map[net.Conn]struct{}{}}
	w.changed = sync.NewCond(&w.mu)
	var accepting sync.WaitGroup
	accepting.Go(w.accept)
	t.Cleanup(func() {
		_ = l.Close()
		w.set(true, false)
		w.cut()
		accepting.Wait()
	})
	return w
}

func (w *wire) address() string { return w.listener.Addr().String() }

func (w *wire) accept() {
	for {
		in, err := w.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", w.to)
		if err != nil || !w.keep(in, out) {
			_ = in.Close()
			continue
		}
		go w.carry(in, out)
		go w.carry(out, in)
	}
}

// keep notes both ends, unless they are to be refused.
func (w *wire) keep(in, out net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse {
		_ = out.Close()
		return false
	}
	w.conns[in], w.conns[out] = struct{}{}, struct{}{}
	return true
}

// carry copies one way until either end is gone. What came while the wire
// stands still is delivered when it goes on.
func (w *wire) carry(from, to net.Conn) {
	defer func() {
		_, _ = from.Close(), to.Close()
		w.mu.Lock()
		delete(w.conns, from)
		w.mu.Unlock()
	}()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		w.mu.Lock()
		for w.stalled {
			w.changed.Wait()
		}
		w.mu.Unlock()
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (w *wire) set(refuse, stalled bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse, w.stalled = refuse, stalled
	w.changed.Broadcast()
}

// cut ends the connections that there are.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		_ = c.Close()
	}
}

// part ends all connections and refuses new ones.
func (w *wire) part() {
	w.set(true, false)
	w.cut()
}

// stall lets connections be, and moves nothing.
func (w *wire) stall() { w.set(false, true) }

// heal lets everything through.
func (w *wire) heal() { w.set(false, false) }
