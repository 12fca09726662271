package policies

import (
	"encoding/json"
	"fmt"
	"math"
)

// maxModelPattern bounds one pattern of allowed_models; bytes.
const maxModelPattern = 256

// maxExact is the largest whole number that a float64 tells from its neighbours.
const maxExact = 1 << 53

// LLMObligations are what a decision asks of a request to a language model that
// may pass. Those of the two questions hold together.
type LLMObligations struct {
	// Models are patterns, one of which must match the model; * stands for any
	// run of characters. nil: none were given. Empty: no model is allowed.
	Models []string
	// MaxOutputTokens is the most that one choice may have, at least 1.
	// 0: none was given.
	MaxOutputTokens int64
}

// ReadLLMObligations reads the obligations of a [Decision], as it has them or as
// they came out of a google.protobuf.Struct. One that is known and of the wrong
// form is an error, for which the request must be denied: what it obliges to is
// not known. Others are for somebody else and are left alone.
func ReadLLMObligations(obligations map[string]any) (LLMObligations, error) {
	r := memberReader{members: obligations}
	o := LLMObligations{
		Models:          r.patterns("allowed_models"),
		MaxOutputTokens: r.positive("max_output_tokens"),
	}
	if r.err != nil {
		return LLMObligations{}, fmt.Errorf("obligations: %w", r.err)
	}
	return o, nil
}

func (r *memberReader) patterns(name string) []string {
	list := r.names(name)
	for _, s := range list {
		if len(s) > maxModelPattern {
			r.fail(name, "a pattern has more than %d bytes", maxModelPattern)
		}
	}
	return list
}

// positive reads a whole number from 1; 0 if it is absent.
func (r *memberReader) positive(name string) int64 {
	v, ok := r.members[name]
	if !ok {
		return 0
	}
	n, ok := whole(v)
	if !ok || n < 1 {
		r.fail(name, "%v is not a whole number of at least 1", v)
		return 0
	}
	return n
}

// whole returns a JSON number without a fraction, however it is written.
func whole(v any) (int64, bool) {
	f, isFloat := v.(float64)
	if num, ok := v.(json.Number); ok {
		if n, err := num.Int64(); err == nil {
			return n, true
		}
		var err error
		f, err = num.Float64()
		isFloat = err == nil
	}
	if !isFloat || f != math.Trunc(f) || math.Abs(f) > maxExact {
		return 0, false
	}
	return int64(f), true
}
