package policies

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"gatehouse/internal/request"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Input is one request as a policy sees it. Decide reads it and keeps nothing
// of it. Strings may hold any bytes.
type Input struct {
	ID       string
	Method   string
	Path     string // as sent, with the query
	Host     string
	Scheme   string
	Protocol string
	Size     int64     // bytes of the body as Envoy counts them; 0 or less is left out
	Time     time.Time // when Envoy received the request; zero is left out
	Headers  []Header  // in the order sent; pseudo headers may be among them

	// BodyWanted says that the route asks for the body. Without it a policy
	// sees none, whatever Body holds.
	BodyWanted    bool
	BodyTruncated bool
	Body          []byte

	Source            Peer
	Destination       Peer
	ContextExtensions []Header // name and value; of a name that stands twice the last counts

	Principal    request.Principal
	Route        string
	Listener     string
	Permission   string // "" where the route needs none
	UpstreamPath string // the target that the upstream gets, with the query
}

// Header is one header field or query parameter.
type Header struct {
	Name  string
	Value string
}

// Peer is one end of the connection. A Peer without Address is left out.
type Peer struct {
	Address   string
	Port      uint32
	Principal string // identity of the peer's certificate, "" if there is none
}

// document builds the input document: opa-envoy-plugin's, as OPA's
// docs/envoy/primer.md shows it, and our members. body is the parsed body, nil
// for none, which is null in the document as it is there.
func (e *Engine) document(in *Input, body *ast.Term) ast.Value {
	doc := ast.NewObject(
		member(nameAttributes, e.attributes(in)),
		member(nameParsedPath, parsedPath(in.Path)),
		member(nameParsedQuery, e.parsedQuery(in.Path)),
		member(nameParsedBody, orNull(body)),
		member(nameTruncatedBody, ast.InternedTerm(in.BodyWanted && in.BodyTruncated)),
		member(nameVersion, object(text(nameEncoding, "protojson"), text(nameExtAuthz, "v3"))),
		member(namePrincipal, principal(&in.Principal)),
		text(nameRoute, in.Route),
		text(nameListener, in.Listener),
		text(namePermission, in.Permission),
		text(nameUpstreamPath, e.visibleTarget(in.UpstreamPath)),
	)
	if in.Source.Principal != "" {
		doc.Insert(nameSourcePrincipal, ast.StringTerm(in.Source.Principal))
	}
	return doc
}

func (e *Engine) attributes(in *Input) *ast.Term {
	request := [][2]*ast.Term{member(nameHttp, e.http(in))}
	if !in.Time.IsZero() {
		request = append(request, text(nameTime, in.Time.UTC().Format(time.RFC3339Nano)))
	}
	members := [][2]*ast.Term{member(nameRequest, object(request...))}
	members = appendPeer(members, nameSource, in.Source)
	members = appendPeer(members, nameDestination, in.Destination)
	if len(in.ContextExtensions) > 0 {
		members = append(members, member(nameContextExtensions, pairMap(in.ContextExtensions)))
	}
	return object(members...)
}

func (e *Engine) http(in *Input) *ast.Term {
	members := make([][2]*ast.Term, 0, 9)
	members = append(members,
		text(nameId, in.ID),
		text(nameMethod, in.Method),
		text(namePath, e.visibleTarget(in.Path)),
		text(nameHost, in.Host),
		text(nameScheme, in.Scheme),
		text(nameProtocol, in.Protocol),
		member(nameHeaders, e.headers(in.Headers)),
	)
	if in.Size > 0 {
		members = append(members, member(nameSize, integer(in.Size)))
	}
	if e.readsBody && in.BodyWanted && len(in.Body) > 0 {
		members = append(members, text(nameBody, string(in.Body)))
	}
	return object(members...)
}

// originalPath is the header in which a proxy keeps the path before a rewrite.
const originalPath = "x-envoy-original-path"

// headers is the header map: names in lower case, repeated ones joined by a
// comma, credentials left out unless the policy set exposes them.
func (e *Engine) headers(list []Header) *ast.Term {
	obj := ast.NewObjectWithCapacity(len(list))
	for _, h := range list {
		name, value := strings.ToLower(h.Name), h.Value
		if !e.exposeToken && isCredentialHeader(name) {
			continue
		}
		if name == ":path" || name == originalPath {
			value = e.visibleTarget(value)
		}
		key := ast.StringTerm(name)
		if before := obj.Get(key); before != nil {
			value = string(before.Value.(ast.String)) + "," + value
		}
		obj.Insert(key, ast.StringTerm(value))
	}
	return ast.NewTerm(obj)
}

// isCredentialHeader reports whether a Gatehouse token may stand in the header.
func isCredentialHeader(name string) bool {
	switch name {
	case "authorization", "x-api-key", "api-key", "x-goog-api-key":
		return true
	}
	return false
}

func principal(p *request.Principal) *ast.Term {
	return object(
		text(nameKind, string(p.Kind)),
		text(nameIssuer, p.Issuer),
		text(nameSubject, p.Subject),
		text(nameTenant, p.Tenant),
		text(nameProject, p.Project),
		text(nameAgent, p.Agent),
		text(nameRun, p.Run),
		text(nameRole, string(p.Role)),
	)
}

func appendPeer(members [][2]*ast.Term, name *ast.Term, p Peer) [][2]*ast.Term {
	if p.Address == "" {
		return members
	}
	socket := object(text(nameAddress, p.Address), member(namePortValue, integer(int64(p.Port))))
	peer := [][2]*ast.Term{member(nameAddress, object(member(nameSocketAddress, socket)))}
	if p.Principal != "" {
		peer = append(peer, text(namePrincipal, p.Principal))
	}
	return append(members, member(name, object(peer...)))
}

// object, member, text, integer, pairMap and orNull are the shapes that
// documents are built of.

func object(members ...[2]*ast.Term) *ast.Term { return ast.NewTerm(ast.NewObject(members...)) }

func member(name, value *ast.Term) [2]*ast.Term { return [2]*ast.Term{name, value} }

func text(name *ast.Term, value string) [2]*ast.Term { return member(name, ast.StringTerm(value)) }

func integer(n int64) *ast.Term { return ast.NumberTerm(json.Number(strconv.FormatInt(n, 10))) }

func pairMap(pairs []Header) *ast.Term {
	obj := ast.NewObjectWithCapacity(len(pairs))
	for _, p := range pairs {
		obj.Insert(ast.StringTerm(p.Name), ast.StringTerm(p.Value))
	}
	return ast.NewTerm(obj)
}

func orNull(t *ast.Term) *ast.Term {
	if t == nil {
		return ast.NullTerm()
	}
	return t
}
