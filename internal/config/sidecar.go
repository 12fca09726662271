package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"gatehouse/internal/request"
)

const (
	// maxSocket is the longest path of the gate socket in bytes; a socket
	// address of Linux ends at 107.
	maxSocket = 100
	// maxCredentials is how many credentials one sidecar may have.
	maxCredentials = 500
	// defaultDebug is where the debug listener stands if not told otherwise.
	defaultDebug = "127.0.0.1:9464"
)

// sidecarName is wide enough for the name of a pod.
var sidecarName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$`)

// ParseSidecar reads sidecar.yaml. file is the name that faults carry; data is
// at most 1 MiB. The error, if any, is Faults with everything that is wrong.
func ParseSidecar(file string, data []byte) (*Sidecar, error) {
	r := newReport(file, data)
	root := parseDocument(r, data)
	if root == nil {
		return nil, r.err()
	}
	sc := readSidecar(r, newNode(root, ""))
	if err := r.err(); err != nil {
		return nil, err
	}
	return sc, nil
}

func readSidecar(r *report, root node) *Sidecar {
	o := decode(r, root, schema{
		"name": required, "socket": required, "state_dir": required, "listeners": required,
		"envoy_uid": optional, "principal": optional, "shared": optional, "credentials": optional,
		"debug": optional, "limits": optional, "control": optional,
	})
	sc := &Sidecar{
		Name:        text(o, "name", "", keep(checkSidecarName)),
		Socket:      text(o, "socket", "", keep(checkSocket)),
		StateDir:    text(o, "state_dir", "", keep(checkFile)),
		EnvoyUID:    o.integer("envoy_uid", -1, 0, math.MaxUint32-1),
		Listeners:   readListeners(o),
		Control:     readControl(o),
		Principal:   readWorkload(o),
		Credentials: readCredentials(o),
		Debug:       text(o, "debug", defaultDebug, parseDebug),
		Limits:      readSidecarLimits(o),
	}
	sc.Shared = readShared(o)
	checkAddresses(o, sc)
	return sc
}

// readShared reports whether the sidecar is bound to no tenant. That follows
// from the principal; a key that says otherwise is a mistake that would open
// the sidecar to other tenants, or seem to close it.
func readShared(o object) bool {
	shared := o.boolean("shared")
	bound := o.has("principal")
	if o.has("control") {
		for _, key := range []string{"principal", "shared"} {
			if o.has(key) {
				o.fault(key, "is what the sidecar is registered as at control; it can't be said here too")
			}
		}
		return false
	}
	switch {
	case bound && shared:
		o.fault("shared", "a sidecar with a principal is bound to its tenant")
	case !bound && !shared && o.has("shared"):
		o.fault("shared", "a sidecar without a principal is shared")
	}
	return !bound
}

func readControl(sidecar object) *Control {
	if !sidecar.has("control") {
		return nil
	}
	o := sidecar.object("control", schema{"address": required, "credential_file": required, "ca_file": optional})
	return &Control{
		Address:        text(o, "address", "", keep(checkHostPort)),
		CAFile:         text(o, "ca_file", "", keep(checkFile)),
		CredentialFile: text(o, "credential_file", "", keep(checkFile)),
	}
}

// checkHostPort checks the address of a server elsewhere, by name or literal.
func checkHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || strings.Contains(host, "%") {
		return fmt.Errorf("%s is not a host and port such as control.example:8443", quote(s))
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	_, err = parseHost(host)
	return err
}

func checkSidecarName(s string) error {
	if !sidecarName.MatchString(s) {
		return fmt.Errorf("%s is not a name: letters, digits and . _ -, at most 253", quote(s))
	}
	return nil
}

func checkSocket(s string) error {
	if len(s) > maxSocket {
		return fmt.Errorf("must have at most %d bytes", maxSocket)
	}
	return checkFile(s)
}

func readListeners(sidecar object) Listeners {
	if !sidecar.has("listeners") {
		return Listeners{}
	}
	o := sidecar.object("listeners", schema{Inbound: optional, Outbound: optional})
	if o.isMap && len(o.fields) == 0 {
		o.report.add(o.at, o.path, "needs at least one of inbound and outbound")
	}
	return Listeners{Inbound: readListener(o, Inbound), Outbound: readListener(o, Outbound)}
}

func readListener(listeners object, key string) *Listener {
	if !listeners.has(key) {
		return nil
	}
	o := listeners.object(key, schema{"address": required, "tls": optional})
	l := &Listener{Address: text(o, "address", "", parseAddress)}
	if o.has("tls") {
		t := o.object("tls", schema{"cert_file": required, "key_file": required, "client_ca_file": optional})
		l.TLS = &TLS{
			CertFile:     text(t, "cert_file", "", keep(checkFile)),
			KeyFile:      text(t, "key_file", "", keep(checkFile)),
			ClientCAFile: text(t, "client_ca_file", "", keep(checkFile)),
		}
	}
	return l
}

// parseAddress reads a literal address and port and returns them in their
// usual spelling.
func parseAddress(s string) (string, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return "", fmt.Errorf("%s is not a literal address and port such as 127.0.0.1:8081", quote(s))
	}
	switch ip := a.Addr(); {
	case a.Port() == 0:
		return "", errors.New("the port must be from 1 to 65535")
	case ip.Zone() != "", ip.Is4In6(), ip.IsMulticast():
		return "", errors.New("an address to listen on has no zone, carries no other and is no multicast address")
	}
	return a.String(), nil
}

// parseDebug reads the address of the debug listener, which asks nobody who
// they are and therefore stays on the machine.
func parseDebug(s string) (string, error) {
	address, err := parseAddress(s)
	if err != nil {
		return "", err
	}
	if !loopbackAddress(address) {
		return "", errors.New("must be a loopback address")
	}
	return address, nil
}

// loopbackAddress reports whether an address and port are on loopback.
func loopbackAddress(s string) bool {
	a, err := netip.ParseAddrPort(s)
	return err == nil && a.Addr().IsLoopback()
}

// checkAddresses reports listeners that can't be open at once.
func checkAddresses(o object, sc *Sidecar) {
	in, out := sc.Listeners.Inbound, sc.Listeners.Outbound
	if in != nil && out != nil && overlap(in.Address, out.Address) {
		o.fault("listeners", "inbound and outbound have the same address")
	}
	for _, l := range []*Listener{in, out} {
		if l != nil && overlap(l.Address, sc.Debug) {
			o.fault("debug", "%s is a listener's address", sc.Debug)
		}
	}
}

// overlap reports whether two addresses can't be listened on at once: the
// same, or one of them all addresses of the port.
func overlap(a, b string) bool {
	x, errX := netip.ParseAddrPort(a)
	y, errY := netip.ParseAddrPort(b)
	if errX != nil || errY != nil || x.Port() != y.Port() {
		return false
	}
	return x == y || x.Addr().IsUnspecified() || y.Addr().IsUnspecified()
}

func readWorkload(sidecar object) *Workload {
	if !sidecar.has("principal") {
		return nil
	}
	o := sidecar.object("principal", schema{
		"subject": required, "tenant": required, "project": optional, "agent": optional, "role": optional,
	})
	observer := string(request.RoleObserver)
	return &Workload{
		Subject: text(o, "subject", "", keep(checkWord)),
		Tenant:  text(o, "tenant", "", keep(checkTenant)),
		Project: text(o, "project", "", keep(checkWord)),
		Agent:   text(o, "agent", "", keep(checkWord)),
		Role:    text(o, "role", observer, keep(oneOf(string(request.RoleDeveloper), observer))),
	}
}

// checkTenant checks the tenant of a workload: one, never a word for several.
func checkTenant(s string) error {
	if s == request.AnyTenant || s == "any" {
		return fmt.Errorf("%q is not one tenant", s)
	}
	return checkWord(s)
}

func readCredentials(sidecar object) map[string]Credential {
	credentials := map[string]Credential{}
	for _, e := range sidecar.entries("credentials", maxCredentials) {
		if err := checkName(e.key); err != nil {
			sidecar.report.add(e.at, "credentials", "%v", err)
		}
		o := decode(sidecar.report, e.value, schema{"env": required})
		credentials[e.key] = Credential{Env: text(o, "env", "", keep(checkEnv))}
	}
	return credentials
}

// checkEnv does not repeat the text: a user may have put the secret itself there.
func checkEnv(s string) error {
	if !envPattern.MatchString(s) {
		return errors.New("is not the name of an environment variable")
	}
	return nil
}

func readSidecarLimits(sidecar object) SidecarLimits {
	o := object{report: sidecar.report}
	if sidecar.has("limits") {
		o = sidecar.object("limits", schema{"envoy_heap": optional, "connections": optional, "streams": optional})
	}
	return SidecarLimits{
		EnvoyHeap:   o.size("envoy_heap", 512*mib, 64*mib, 16*gib),
		Connections: o.integer("connections", 2000, 1, 100_000),
		Streams:     o.integer("streams", 128, 1, 10_000),
	}
}
