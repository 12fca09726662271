// Package apiv1 holds the control API's contract: the OpenAPI document and the
// models and strict server generated from it. It decides nothing and has no
// state; control/httpapi implements it.
//
// openapi.yaml is written by hand and is the one source. The files named
// *.gen.* are made from it by `make generate`. Error answers have no generated
// types: control/httpapi renders all of them in one place.
package apiv1

import _ "embed" // the document

//go:embed openapi.gen.json
var document string

// Spec returns the OpenAPI 3.1 document as JSON. Each call makes a copy.
func Spec() []byte { return []byte(document) }
