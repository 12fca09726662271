package spec

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"gatehouse/internal/request"
)

// Tenancy says whose things an operation is about.
type Tenancy string

// The tenancies.
const (
	TenancyNone   Tenancy = "none"   // nobody's
	TenancyTenant Tenancy = "tenant" // the caller's tenant's, or anybody's for a caller of all
	TenancyAll    Tenancy = "all"    // of all tenants: only for a caller of all
)

// Limit names a kind of rate limit.
type Limit string

// The limits.
const (
	LimitRole  Limit = "role"  // all requests of a principal, or of an address
	LimitProbe Limit = "probe" // questions for the state of the service
	LimitLogin Limit = "login" // sessions that an address begins or goes on with, and refused credentials
	LimitToken Limit = "token" // as role, of those who come with a token alone

	LimitBudget  Limit = "budget"  // holds of tokens that a principal asks for
	LimitBreaker Limit = "breaker" // resets of circuit breakers
)

// Token says whether an operation reads the caller's token.
type Token string

// The answers.
const (
	TokenNone     Token = "none" // a token is not looked at
	TokenOptional Token = "optional"
	TokenRequired Token = "required"
)

// Operation is one method of one path.
type Operation struct {
	ID         string
	Method     string
	Path       string // as in the document, /a/{b}
	Pattern    string // for net/http.ServeMux
	Permission string // "" where none is needed
	Tenancy    Tenancy
	Limits     []Limit
	Token      Token
	Body       *Schema            // nil where there is none
	InPath     map[string]*Schema // by the parameter's name
	InQuery    map[string]*Parameter
	MaxBody    int64 // bytes that the body may have
	IfMatch    bool  // it reads If-Match
	Refuses    bool  // it can answer 422; one that can't does not look at its query
	Lenient    bool  // a token that is no good counts as none
}

// Bounds of bodies, in bytes: of an operation that says nothing, and of what
// one can say.
const (
	DefaultBody = 1 << 20
	LargestBody = 16 << 20
)

// Parameter is one member of the query.
type Parameter struct {
	Schema   *Schema
	Required bool
}

// document is what is read of an OpenAPI document.
type document struct {
	Security   []map[string][]string                 `json:"security"`
	Paths      map[string]map[string]json.RawMessage `json:"paths"`
	Components struct {
		Schemas    map[string]json.RawMessage `json:"schemas"`
		Parameters map[string]parameter       `json:"parameters"`
	} `json:"components"`
}

type operation struct {
	ID         string                 `json:"operationId"`
	Security   *[]map[string][]string `json:"security"`
	Permission string                 `json:"x-gatehouse-permission"`
	Tenancy    Tenancy                `json:"x-gatehouse-tenancy"`
	Limits     []Limit                `json:"x-gatehouse-limits"`
	BodyLimit  int64                  `json:"x-gatehouse-body-limit"`
	BadToken   string                 `json:"x-gatehouse-bad-token"`
	Parameters []parameter            `json:"parameters"`
	Responses  map[string]any         `json:"responses"`
	Body       *struct {
		Required bool `json:"required"`
		Content  map[string]struct {
			Schema json.RawMessage `json:"schema"`
		} `json:"content"`
	} `json:"requestBody"`
}

type parameter struct {
	Ref      string          `json:"$ref"`
	Name     string          `json:"name"`
	In       string          `json:"in"`
	Required bool            `json:"required"`
	Schema   json.RawMessage `json:"schema"`
}

// Parse reads a document. Its error joins all that it can't work with.
func Parse(text []byte) ([]Operation, error) {
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("the document: %w", err)
	}
	var ops []Operation
	var faults []error
	for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(d.Paths[path])) {
			op, err := d.operation(path, strings.ToUpper(method), d.Paths[path][method])
			if err != nil {
				faults = append(faults, fmt.Errorf("%s %s: %w", method, path, err))
			}
			ops = append(ops, op)
		}
	}
	if len(ops) == 0 {
		faults = append(faults, errors.New("the document has no operations"))
	}
	return ops, errors.Join(faults...)
}

func (d *document) operation(path, method string, text json.RawMessage) (Operation, error) {
	var o operation
	if err := json.Unmarshal(text, &o); err != nil {
		return Operation{}, err
	}
	out := Operation{
		ID: o.ID, Method: method, Path: path, Pattern: pattern(method, path),
		Permission: o.Permission, Tenancy: o.Tenancy, Limits: o.Limits, Token: d.token(o),
		MaxBody: cmp.Or(o.BodyLimit, DefaultBody), Lenient: o.BadToken == ignored,
	}
	_, out.Refuses = o.Responses["422"]
	if out.Permission == "none" {
		out.Permission = ""
	}
	body, bodyErr := d.body(o)
	out.Body = body
	return out, errors.Join(o.check(), bodyErr, d.parameters(o, &out))
}

// check finds what would leave an operation open by mistake.
func (o operation) check() error {
	var faults []error
	if o.ID == "" {
		faults = append(faults, errors.New("no operationId"))
	}
	if o.Permission != "none" && !slices.Contains(request.Permissions(), o.Permission) {
		faults = append(faults, fmt.Errorf("x-gatehouse-permission %q is not known", o.Permission))
	}
	if !slices.Contains([]Tenancy{TenancyNone, TenancyTenant, TenancyAll}, o.Tenancy) {
		faults = append(faults, fmt.Errorf("x-gatehouse-tenancy %q is not known", o.Tenancy))
	}
	for _, l := range o.Limits {
		if !slices.Contains([]Limit{LimitRole, LimitProbe, LimitLogin, LimitToken, LimitBudget, LimitBreaker}, l) {
			faults = append(faults, fmt.Errorf("x-gatehouse-limits %q is not known", l))
		}
	}
	if o.BodyLimit < 0 || o.BodyLimit > LargestBody {
		faults = append(faults, fmt.Errorf("x-gatehouse-body-limit is %d, want at most %d", o.BodyLimit, LargestBody))
	}
	if o.BadToken != "" && o.BadToken != ignored {
		faults = append(faults, fmt.Errorf("x-gatehouse-bad-token %q is not known", o.BadToken))
	}
	return errors.Join(faults...)
}

// ignored is the one word of x-gatehouse-bad-token.
const ignored = "ignored"

// token reads what the operation asks for, or the document for all. One empty
// requirement makes the token optional (OpenAPI 3.1, 4.8.10).
func (d *document) token(o operation) Token {
	all := d.Security
	if o.Security != nil {
		all = *o.Security
	}
	if len(all) == 0 {
		return TokenNone
	}
	for _, s := range all {
		if len(s) == 0 {
			return TokenOptional
		}
	}
	return TokenRequired
}

func (d *document) body(o operation) (*Schema, error) {
	if o.Body == nil {
		return nil, nil
	}
	content, ok := o.Body.Content["application/json"]
	if !ok || len(o.Body.Content) != 1 || !o.Body.Required {
		return nil, errors.New("want a required body of application/json alone")
	}
	s, err := d.compile(content.Schema)
	if err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	return s, nil
}

func (d *document) parameters(o operation, out *Operation) error {
	out.InPath, out.InQuery = map[string]*Schema{}, map[string]*Parameter{}
	for _, p := range o.Parameters {
		if name, ok := strings.CutPrefix(p.Ref, "#/components/parameters/"); ok {
			p = d.Components.Parameters[name]
		}
		s, err := d.compile(p.Schema)
		if err != nil {
			return fmt.Errorf("parameter %q: %w", p.Name, err)
		}
		switch p.In {
		case "path":
			out.InPath[p.Name] = s
		case "query":
			out.InQuery[p.Name] = &Parameter{Schema: s, Required: p.Required}
		case "header":
			out.IfMatch = out.IfMatch || p.Name == "If-Match"
		default:
			return fmt.Errorf("parameter %q: in %q", p.Name, p.In)
		}
	}
	if !out.Refuses && (out.Body != nil || len(o.Parameters) > 0) {
		return errors.New("takes a body or parameters, but can't answer 422")
	}
	return nil
}

// pattern is the path as net/http.ServeMux has it: a closing slash means that
// path alone.
func pattern(method, path string) string {
	if strings.HasSuffix(path, "/") {
		path += "{$}"
	}
	return method + " " + path
}

// PathValues takes the parameters out of an escaped path that the operation
// matches. Values that can't be unescaped are left out.
func (o *Operation) PathValues(escaped string) map[string]string {
	if len(o.InPath) == 0 {
		return nil
	}
	values := make(map[string]string, len(o.InPath))
	rest := strings.Split(escaped, "/")
	for i, part := range strings.Split(o.Path, "/") {
		name, ok := strings.CutPrefix(part, "{")
		if !ok || i >= len(rest) {
			continue
		}
		if v, err := url.PathUnescape(rest[i]); err == nil {
			values[strings.TrimSuffix(name, "}")] = v
		}
	}
	return values
}
