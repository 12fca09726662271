package policies

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
)

// Format returns the text of one Rego file in the form that all of them have.
// What it means stays as it is, and formatting again changes nothing. The error
// is [Faults] where it can't be read; name is the file that they name.
func Format(name string, text []byte) ([]byte, error) {
	if len(text) > maxFileBytes {
		return nil, Faults{{File: name, Message: fmt.Sprintf("larger than %d bytes", maxFileBytes)}}
	}
	parser := ast.ParserOptions{Capabilities: capabilities(), ProcessAnnotation: true, RegoVersion: ast.RegoV1}
	out, err := format.SourceWithOpts(name, text, format.Opts{RegoVersion: ast.RegoV1, ParserOptions: &parser})
	if err != nil {
		return nil, faultsOrNil(faultsOf(name, err))
	}
	return out, nil
}
