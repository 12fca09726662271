package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// maxDepth bounds how deep the schemas of a request may nest, which also ends
// a schema that refers to itself.
const maxDepth = 8

// Kind is the type of a value.
type Kind string

// The kinds.
const (
	Object  Kind = "object"
	String  Kind = "string"
	Boolean Kind = "boolean"
	Integer Kind = "integer" // of 64 bits, in plain decimal
	Array   Kind = "array"   // in bodies only
)

// Schema is one schema of a request, made ready to check by.
type Schema struct {
	kind Kind

	properties    map[string]*Schema
	others        *Schema // of members by any other name; nil refuses them
	otherNames    *Schema // of these names
	required      []string
	minProperties int
	maxProperties int // where there are others

	items    *Schema
	maxItems int

	minLength, maxLength int // in characters; maxLength below 0 is none
	pattern              *regexp.Regexp
	enum                 []string

	minimum, maximum int64
}

// keywords is a schema as it is written. Annotations are read so that nothing
// else can be there.
type keywords struct {
	Ref                  string                     `json:"$ref"`
	Type                 Kind                       `json:"type"`
	Properties           map[string]json.RawMessage `json:"properties"`
	Required             []string                   `json:"required"`
	AdditionalProperties json.RawMessage            `json:"additionalProperties"`
	PropertyNames        json.RawMessage            `json:"propertyNames"`
	MinProperties        int                        `json:"minProperties"`
	MaxProperties        int                        `json:"maxProperties"`
	Items                json.RawMessage            `json:"items"`
	MaxItems             int                        `json:"maxItems"`
	MinLength            int                        `json:"minLength"`
	MaxLength            *int                       `json:"maxLength"`
	Pattern              string                     `json:"pattern"`
	Enum                 []string                   `json:"enum"`
	Minimum              *int64                     `json:"minimum"`
	Maximum              *int64                     `json:"maximum"`
	Format               string                     `json:"format"`
	Description          string                     `json:"description"`
	Default              any                        `json:"default"`
}

func (d *document) compile(text json.RawMessage) (*Schema, error) { return d.compileAt(text, 0) }

func (d *document) compileAt(text json.RawMessage, depth int) (*Schema, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("schemas nest deeper than %d", maxDepth)
	}
	var k keywords
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&k); err != nil {
		return nil, err
	}
	if name, ok := strings.CutPrefix(k.Ref, "#/components/schemas/"); ok {
		return d.compileAt(d.Components.Schemas[name], depth+1)
	}
	switch k.Type {
	case Object:
		return d.compileObject(k, depth)
	case String:
		return k.compileString()
	case Boolean:
		return &Schema{kind: Boolean}, nil
	case Integer:
		return k.compileInteger()
	case Array:
		return d.compileArray(k, depth)
	}
	return nil, fmt.Errorf("type %q is not known", k.Type)
}

func (d *document) compileArray(k keywords, depth int) (*Schema, error) {
	if k.MaxItems < 1 || k.Items == nil {
		return nil, errors.New("an array needs items and maxItems")
	}
	items, err := d.compileAt(k.Items, depth+1)
	if err != nil {
		return nil, fmt.Errorf("items: %w", err)
	}
	return &Schema{kind: Array, items: items, maxItems: k.MaxItems}, nil
}

func (d *document) compileObject(k keywords, depth int) (*Schema, error) {
	s := &Schema{kind: Object, properties: map[string]*Schema{}, required: k.Required, minProperties: k.MinProperties, maxProperties: k.MaxProperties}
	if err := d.compileOthers(k, s, depth); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(k.Properties)) {
		p, err := d.compileAt(k.Properties[name], depth+1)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		s.properties[name] = p
	}
	for _, name := range k.Required {
		if s.properties[name] == nil {
			return nil, fmt.Errorf("%s is required, but not described", name)
		}
	}
	return s, nil
}

// compileOthers reads what members by any name are: none, or a bounded number
// of one schema.
func (d *document) compileOthers(k keywords, s *Schema, depth int) error {
	if string(k.AdditionalProperties) == "false" {
		return nil
	}
	if !strings.HasPrefix(string(k.AdditionalProperties), "{") || k.MaxProperties < 1 {
		return errors.New("additionalProperties must be false, or a schema beside maxProperties")
	}
	if k.PropertyNames == nil {
		return errors.New("additionalProperties need propertyNames")
	}
	var err, nameErr error
	s.others, err = d.compileAt(k.AdditionalProperties, depth+1)
	s.otherNames, nameErr = d.compileAt(k.PropertyNames, depth+1)
	if nameErr == nil && s.otherNames.kind != String {
		nameErr = errors.New("propertyNames are strings")
	}
	return errors.Join(err, nameErr)
}

func (k keywords) compileString() (*Schema, error) {
	if k.Format != "" && k.Format != "password" {
		return nil, fmt.Errorf("format %q is not checked", k.Format)
	}
	if k.MaxLength == nil && k.Enum == nil {
		return nil, errors.New("a string needs maxLength or enum")
	}
	s := &Schema{kind: String, minLength: k.MinLength, maxLength: -1, enum: k.Enum}
	if k.MaxLength != nil {
		s.maxLength = *k.MaxLength
	}
	if k.Pattern != "" {
		var err error
		if s.pattern, err = regexp.Compile(k.Pattern); err != nil {
			return nil, err
		}
	}
	// Passwords and tokens are hashed, not stored.
	if k.Format != "password" && s.takesNUL() {
		return nil, errors.New("a string needs a pattern that refuses U+0000, which Postgres can't store")
	}
	return s, nil
}

// takesNUL tells by example whether a text with U+0000 gets through.
func (s *Schema) takesNUL() bool {
	for _, text := range []string{"\x00", "\x00a", "a\x00", "a\x00a"} {
		if s.enum == nil && (s.pattern == nil || s.pattern.MatchString(text)) {
			return true
		}
	}
	return false
}

func (k keywords) compileInteger() (*Schema, error) {
	if k.Minimum == nil || k.Maximum == nil {
		return nil, errors.New("an integer needs minimum and maximum")
	}
	return &Schema{kind: Integer, minimum: *k.Minimum, maximum: *k.Maximum}, nil
}
