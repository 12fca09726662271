package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

const (
	// maxPath is the longest path, prefix or base in bytes.
	maxPath = 1024
	// maxMethods is how many methods one route may name.
	maxMethods = 32
)

// pathMarks are the bytes besides letters and digits that a path may hold:
// pchar of RFC 3986 without "%" and ";", whose meaning readers disagree about.
const pathMarks = "/-._~!$&'()*+,=:@"

// readMatch reads the match of a route. The second result says whether it is
// whole, so that it can be compared with others.
func readMatch(route object) (Match, bool) {
	if !route.has("match") {
		return Match{}, false
	}
	before := route.report.total
	o := route.object("match", schema{
		"listener": required, "host": optional, "base": optional, "path": optional, "prefix": optional, "methods": optional,
	})
	m := Match{
		Listener: text(o, "listener", "", keep(oneOf(Inbound, Outbound))),
		Host:     text(o, "host", "", parseMatchHost),
		Base:     text(o, "base", "", keep(checkBase)),
		Path:     text(o, "path", "", keep(checkPath)),
		Prefix:   text(o, "prefix", "", keep(checkPrefix)),
		Methods:  o.texts("methods", maxMethods, checkMethod),
	}
	o.notEmpty("methods")
	checkMatch(o, m)
	return m, route.report.total == before
}

func checkMatch(o object, m Match) {
	if o.isMap && o.has("path") == o.has("prefix") {
		o.report.add(o.at, o.path, "needs exactly one of path and prefix")
	}
	if o.has("host") && o.has("base") {
		o.fault("base", "host and base exclude each other")
	}
	for _, key := range []string{"host", "base"} {
		if m.Listener == Inbound && o.has(key) {
			o.fault(key, "is for outbound routes only")
		}
	}
}

// parseMatchHost returns the host of captured traffic, without a port. An
// IPv6 address has two spellings in a Host header and no use here.
func parseMatchHost(s string) (string, error) {
	host, err := parseHost(s)
	if err != nil {
		return "", err
	}
	if a, err := netip.ParseAddr(host); err == nil && !a.Is4() {
		return "", errors.New("must be a DNS name or an IPv4 address")
	}
	return host, nil
}

// checkPath checks that a path is written as Envoy will have normalised it:
// any other spelling would never match.
func checkPath(s string) error {
	if s[0] != '/' || len(s) > maxPath {
		return fmt.Errorf("must begin with / and have at most %d bytes", maxPath)
	}
	for i := range len(s) {
		if !isPathByte(s[i]) {
			return fmt.Errorf("must not hold %q: no escapes, parameters, spaces, or anything but ASCII", s[i:i+1])
		}
	}
	if strings.Contains(s, "//") {
		return errors.New("must not have empty segments")
	}
	for segment := range strings.SplitSeq(s, "/") {
		if segment == "." || segment == ".." {
			return errors.New("must not have . or .. segments")
		}
	}
	return nil
}

func isPathByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte(pathMarks, b) >= 0
}

// checkPrefix checks a prefix of whole segments: "/", or no slash at its end.
func checkPrefix(s string) error {
	if err := checkPath(s); err != nil {
		return err
	}
	if s != "/" && strings.HasSuffix(s, "/") {
		return errors.New("must not end in /: a prefix covers whole segments")
	}
	return nil
}

// checkBase checks the base of a base URL, which is a prefix that is removed.
func checkBase(s string) error {
	if s == "/" {
		return errors.New("must be more than /")
	}
	return checkPrefix(s)
}

// takesAll reports whether every request of other is also one of m. Both are
// whole; methods are those that the route really takes, nil means all.
func (m Match) takesAll(other Match, methods, otherMethods []string) bool {
	return m.Listener == other.Listener &&
		(m.Host == "" || m.Host == other.Host) &&
		m.coversPaths(other) &&
		(methods == nil || otherMethods != nil && containsAll(methods, otherMethods))
}

func containsAll(set, subset []string) bool {
	return !slices.ContainsFunc(subset, func(s string) bool { return !slices.Contains(set, s) })
}

// coversPaths compares paths as they are sent, base included.
func (m Match) coversPaths(other Match) bool {
	if m.Path != "" {
		return other.Path != "" && m.Base+m.Path == other.Base+other.Path
	}
	prefix, path := m.sentPrefix(), other.Base+other.Path
	if other.Path == "" {
		path = other.sentPrefix()
	}
	return prefix == "/" || path == prefix || strings.HasPrefix(path, prefix+"/")
}

// sentPrefix returns base and prefix as one prefix of whole segments.
func (m Match) sentPrefix() string {
	if m.Base != "" && m.Prefix == "/" {
		return m.Base
	}
	return m.Base + m.Prefix
}
