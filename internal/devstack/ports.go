package devstack

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"strconv"
)

// The ports of a stack where they are free.
const (
	apiPort      = 8000
	meshPort     = 8443
	inboundPort  = 8080
	outboundPort = 8081
	appPort      = 9000
	providerPort = 9001
	debugPort    = 9464

	// portTries is how many free ports are tried before giving up.
	portTries = 50
)

// claims are the ports that a stack has picked. Envoy shares its ports with
// other Envoys of the same uid (SO_REUSEPORT) instead of failing, so a port is
// also claimed by an abstract socket, which the kernel frees with its owner.
type claims struct {
	held []net.Listener
}

// take picks the wanted port on loopback, or a free one where it is taken, and
// holds it for a child that binds it later.
func (c *claims) take(want int) (string, error) {
	l, err := c.listen(want)
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// listen is take with the listener kept open, for a child that inherits it.
func (c *claims) listen(want int) (*net.TCPListener, error) {
	var err error
	for range portTries {
		l, lErr := listenLoopback(want)
		if lErr == nil {
			if err = c.hold(l); err == nil {
				return l, nil
			}
			_ = l.Close()
		}
		err = cmp.Or(lErr, err)
		want = 0
	}
	return nil, fmt.Errorf("no free port on loopback: %w", err)
}

func listenLoopback(port int) (*net.TCPListener, error) {
	return net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
}

func (c *claims) hold(l *net.TCPListener) error {
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	h, err := net.Listen("unix", "@gatehouse-dev-port-"+port)
	if err == nil {
		c.held = append(c.held, h)
	}
	return err
}

// release gives all ports back.
func (c *claims) release() error {
	var errs []error
	for _, h := range c.held {
		errs = append(errs, h.Close())
	}
	c.held = nil
	return errors.Join(errs...)
}
