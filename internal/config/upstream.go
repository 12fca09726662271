package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// reservedUpstream is the name of the cluster that leads to Gatehouse itself.
const reservedUpstream = "gate"

// endpoint is the part of a URL that says where to connect.
type endpoint struct {
	scheme string // "http" or "https"
	host   string // lower case, without brackets
	port   int
}

// parseEndpoint reads scheme and authority of a URL (RFC 3986) and returns
// what follows them. The errors never repeat the text, which may hold a
// password.
func parseEndpoint(s string) (endpoint, string, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	scheme = strings.ToLower(scheme)
	if !ok || scheme != "http" && scheme != "https" {
		return endpoint{}, "", errors.New("must begin with http:// or https://")
	}
	end := strings.IndexAny(rest, "/?#\\")
	if end < 0 {
		end = len(rest)
	}
	authority, rest := rest[:end], rest[end:]
	if strings.Contains(authority, "@") {
		return endpoint{}, "", errors.New("must not carry user information")
	}
	host, port, err := splitAuthority(authority)
	if err != nil {
		return endpoint{}, "", err
	}
	e := endpoint{scheme: scheme, host: host, port: port}
	if port == 0 {
		e.port = map[string]int{"http": 80, "https": 443}[scheme]
	}
	return e, rest, checkDestination(host)
}

// splitAuthority reads host[:port]; port 0 means that none was given.
func splitAuthority(s string) (string, int, error) {
	host, port, literal := s, "", false
	switch {
	case strings.HasPrefix(s, "["):
		inside, after, closed := strings.Cut(s[1:], "]")
		if !closed || after != "" && after[0] != ':' {
			return "", 0, errors.New("the host has an unmatched bracket")
		}
		host, port, literal = inside, after, true
	case strings.Count(s, ":") > 1:
		return "", 0, errors.New("an IPv6 address stands in brackets")
	case strings.Contains(s, ":"):
		i := strings.IndexByte(s, ':')
		host, port = s[:i], s[i:]
	}
	if host == "" {
		return "", 0, errors.New("the host is missing")
	}
	name, err := parseHost(host)
	if err != nil {
		return "", 0, err
	}
	if a, err := netip.ParseAddr(name); literal && (err != nil || !a.Is6()) {
		return "", 0, errors.New("only an IPv6 address stands in brackets")
	}
	n, err := parsePort(port)
	return name, n, err
}

// parsePort reads ":443"; "" is port 0.
func parsePort(s string) (int, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(s[1:])
	if err != nil || n < 1 || n > 65535 || !allIn(s[1:], '0', '9') || s[1] == '0' {
		return 0, errors.New("the port must be from 1 to 65535")
	}
	return n, nil
}

func readUpstreams(set object, out *PolicySet) {
	out.Upstreams = map[string]Upstream{}
	out.places.credentials = map[string]place{}
	set.notEmpty("upstreams")
	for _, e := range set.entries("upstreams", maxUpstreams) {
		if err := checkUpstreamName(e.key); err != nil {
			set.report.add(e.at, "upstreams", "%v", err)
		}
		o := decode(set.report, e.value, schema{
			"url": required, "ca_file": optional, "credential": optional, "private": optional,
			"format": optional, "breaker": optional,
		})
		out.Upstreams[e.key] = readUpstream(o)
		out.places.credentials[e.key] = o.valuePlace("credential")
	}
}

func checkUpstreamName(s string) error {
	if s == reservedUpstream {
		return fmt.Errorf("the name %q is reserved", s)
	}
	return checkName(s)
}

func readUpstream(o object) Upstream {
	u := text(o, "url", Upstream{}, parseUpstreamURL)
	u.CAFile = text(o, "ca_file", "", keep(checkFile))
	u.Credential = text(o, "credential", "", keep(checkCredentialName))
	u.Private = o.boolean("private")
	u.Format = readFormat(o)
	u.Breaker = readBreaker(o)
	if u.Scheme != "http" {
		return u
	}
	if u.CAFile != "" {
		o.fault("ca_file", "needs an https url")
	}
	if u.Credential != "" && !isLoopback(u.Host) {
		o.fault("credential", "needs an https url or a literal loopback address")
	}
	return u
}

// readFormat returns a text also where it is wrong: that is no fault of the
// routes that lead there.
func readFormat(o object) string {
	if !o.has("format") {
		return ""
	}
	return text(o, "format", "unknown", keep(oneOf(Formats()...)))
}

func readBreaker(upstream object) *Breaker {
	if !upstream.has("breaker") {
		return nil
	}
	o := upstream.object("breaker", schema{"failures": optional, "recovery": optional})
	return &Breaker{
		Failures: o.integer("failures", 5, 1, 1000),
		Recovery: o.duration("recovery", 30*time.Second, time.Second, time.Hour),
	}
}

// checkCredentialName does not repeat the text: a user may have put the secret
// itself there.
func checkCredentialName(s string) error {
	if !namePattern.MatchString(s) {
		return errors.New("is not the name of a credential: a-z, 0-9, _ and -, at most 63")
	}
	return nil
}

// parseUpstreamURL reads the URL of an upstream, which is an origin and no more.
func parseUpstreamURL(s string) (Upstream, error) {
	e, rest, err := parseEndpoint(s)
	if err != nil {
		return Upstream{}, err
	}
	if rest != "" && rest != "/" {
		return Upstream{}, errors.New("must not carry a path, query or fragment")
	}
	return Upstream{URL: s, Scheme: e.scheme, Host: e.host, Port: e.port}, nil
}
