package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"gatehouse/internal/request"
)

// symmetricAlgorithm is the one algorithm whose key both sides hold.
const symmetricAlgorithm = "HS256"

// algorithms are those of RFC 7518 and RFC 8037 that a token may be signed with.
var algorithms = oneOf("EdDSA", "ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", symmetricAlgorithm)

// readIssuer reads all of an issuer but its name.
func readIssuer(o object) Issuer {
	is := Issuer{
		Issuer:     text(o, "issuer", "", keep(checkWord)),
		JWKS:       readJWKS(o),
		Audience:   text(o, "audience", "", keep(checkWord)),
		Algorithms: o.texts("algorithms", maxListed, algorithms),
		Symmetric:  o.boolean("symmetric"),
		Tenants:    o.texts("tenants", maxListed, checkWord),
		Roles:      o.texts("roles", maxListed, checkAssertedRole),
		Claims:     readClaims(o),
	}
	o.notEmpty("algorithms")
	checkSymmetric(o, is)
	return is
}

// checkSymmetric keeps secrets and public keys apart: a verifier that takes
// both kinds for one issuer can be given a public key as the secret.
func checkSymmetric(o object, is Issuer) {
	hs := slices.Contains(is.Algorithms, symmetricAlgorithm)
	switch {
	case is.Symmetric && (len(is.Algorithms) > 1 || len(is.Algorithms) == 1 && !hs):
		o.fault("algorithms", "an issuer with symmetric: true takes %s only", symmetricAlgorithm)
	case hs && !is.Symmetric:
		o.fault("algorithms", "%s needs symmetric: true", symmetricAlgorithm)
	}
	if is.Symmetric && (is.JWKS.URL != "" || is.JWKS.Control) {
		o.fault("jwks", "the keys of an issuer with symmetric: true stand in a file")
	}
}

// checkAssertedRole checks a role that an issuer may assert. Nobody needs to
// be told to be anonymous.
func checkAssertedRole(s string) error {
	if s == "any" || s != string(request.RoleAnonymous) && request.Role(s).Valid() {
		return nil
	}
	return fmt.Errorf("%s is not a role that an issuer can assert", quote(s))
}

// readJWKS reads jwks: control, {file: /abs} or {url: https://...}.
func readJWKS(issuer object) JWKS {
	if !issuer.has("jwks") {
		return JWKS{}
	}
	if s, ok := issuer.fields["jwks"].value.ast.(*ast.StringNode); ok && s.Value == "control" {
		return JWKS{Control: true}
	}
	o := issuer.object("jwks", schema{"file": optional, "url": optional})
	if o.isMap && len(o.fields) != 1 {
		o.report.add(o.at, o.path, "needs exactly one of file and url")
	}
	return JWKS{
		File: text(o, "file", "", keep(checkFile)),
		URL:  text(o, "url", "", keep(checkKeysURL)),
	}
}

// checkKeysURL allows plain http only where nobody stands between.
func checkKeysURL(s string) error {
	e, rest, err := parseEndpoint(s)
	if err != nil {
		return err
	}
	if e.scheme != "https" && !isLoopback(e.host) {
		return errors.New("needs https, or a literal loopback address")
	}
	if strings.Contains(rest, "#") || !allIn(rest, '!', '~') {
		return errors.New("must not carry a fragment, spaces or anything but ASCII")
	}
	return nil
}

// readClaims reads the names of the claims and fills in the defaults.
func readClaims(issuer object) Claims {
	o := object{report: issuer.report}
	if issuer.has("claims") {
		o = issuer.object("claims", schema{
			"role": optional, "tenant": optional, "project": optional, "agent": optional, "run": optional,
		})
	}
	taken := map[string]string{}
	claim := func(key, missing string) string {
		name := text(o, key, missing, keep(checkWord))
		if other, twice := taken[name]; twice {
			o.fault(key, "claim %s already carries the %s", quote(name), other)
		}
		taken[name] = key
		return name
	}
	return Claims{
		Role:    claim("role", "role"),
		Tenant:  claim("tenant", "tenant_id"),
		Project: claim("project", "project_id"),
		Agent:   claim("agent", "agent_id"),
		Run:     claim("run", "run_id"),
	}
}
