package config

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// dnsLabel is one label of a host name (RFC 1123, 2.1), in lower case.
var dnsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// numericLabel is what some resolvers read as a number; as the last label it
// makes the whole name an address in an odd spelling (0177.1, 2130706433, 0x7f.1).
var numericLabel = regexp.MustCompile(`^([0-9]+|0x[0-9a-f]*)$`)

// metadata are addresses at which clouds serve credentials to any caller.
var metadata = []netip.Addr{
	netip.MustParseAddr("169.254.169.254"),
	netip.MustParseAddr("100.100.100.200"),
	netip.MustParseAddr("168.63.129.16"),
	netip.MustParseAddr("fd00:ec2::254"),
	netip.MustParseAddr("fd20:ce::254"),
}

// carriers are IPv6 ranges whose addresses carry an IPv4 address, so that a
// refused one could come in by another name.
var carriers = []netip.Prefix{
	netip.MustParsePrefix("::ffff:0:0/96"), // IPv4-mapped, RFC 4291
	netip.MustParsePrefix("::/96"),         // IPv4-compatible, RFC 4291
	netip.MustParsePrefix("64:ff9b::/96"),  // NAT64, RFC 6052
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("2002::/16"), // 6to4, RFC 3056
}

// parseHost returns a host in lower case: a DNS name, an IPv4 address, or an
// IPv6 address without brackets.
func parseHost(s string) (string, error) {
	host := strings.ToLower(s)
	if !allIn(s, '!', '~') {
		return "", errors.New("the host must be ASCII; write an international name in its xn-- form")
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if a.Zone() != "" {
			return "", errors.New("an address must not carry a zone")
		}
		return a.String(), nil
	}
	labels := strings.Split(host, ".")
	if len(host) > 253 || slices.ContainsFunc(labels, notLabel) {
		return "", fmt.Errorf("%s is neither a DNS name nor an address", quote(s))
	}
	if numericLabel.MatchString(labels[len(labels)-1]) {
		return "", fmt.Errorf("%s is an address in a form that readers disagree about", quote(s))
	}
	return host, nil
}

func notLabel(label string) bool { return !dnsLabel.MatchString(label) }

// checkDestination refuses the literal addresses that no request may be sent
// to. Names pass; what they resolve to is not known here.
func checkDestination(host string) error {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return nil
	}
	carries := func(p netip.Prefix) bool { return p.Contains(a) }
	switch {
	case slices.Contains(metadata, a):
		return fmt.Errorf("%s is a cloud's metadata address", a)
	case a.IsLinkLocalUnicast():
		return fmt.Errorf("%s is a link-local address", a)
	case a.IsUnspecified(), a.Is4() && a.As4()[0] == 0:
		return fmt.Errorf("%s is an unspecified address", a)
	case a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%s is a multicast or broadcast address", a)
	case a.Is4In6() || !a.IsLoopback() && slices.ContainsFunc(carriers, carries):
		return fmt.Errorf("%s carries an IPv4 address; write that", a)
	}
	return nil
}

// isLoopback reports whether a host is a literal loopback address.
func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}
