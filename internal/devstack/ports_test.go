package devstack

import (
	"net"
	"testing"
)

func port(t *testing.T, a net.Addr) int {
	t.Helper()
	return a.(*net.TCPAddr).Port
}

func TestTakenPortIsReplaced(t *testing.T) {
	t.Parallel()
	taken, err := listenLoopback(0)
	noError(t, err)
	defer taken.Close()
	var c claims
	defer c.release()
	l, err := c.listen(port(t, taken.Addr()))
	noError(t, err)
	defer l.Close()
	if port(t, l.Addr()) == port(t, taken.Addr()) {
		t.Error("a taken port was given out")
	}
}

// The first stack's Envoy may not have bound its port yet.
func TestClaimedPortIsReplacedThoughNobodyListens(t *testing.T) {
	t.Parallel()
	var first, second claims
	defer second.release()
	a, err := first.take(0)
	noError(t, err)
	addr, err := net.ResolveTCPAddr("tcp", a)
	noError(t, err)
	b, err := second.take(addr.Port)
	noError(t, err)
	if a == b {
		t.Errorf("two stacks were given %s", a)
	}
	noError(t, first.release())
	var third claims
	defer third.release()
	if c, err := third.take(addr.Port); err != nil || c != a {
		t.Errorf("a released port: got %s, %v, want %s", c, err, a)
	}
}

func TestWantedPortIsTaken(t *testing.T) {
	t.Parallel()
	free, err := listenLoopback(0)
	noError(t, err)
	want := free.Addr().String()
	noError(t, free.Close())
	var c claims
	defer c.release()
	if got, err := c.take(port(t, free.Addr())); err != nil || got != want {
		t.Errorf("take of a free port: %s, %v, want %s", got, err, want)
	}
}
