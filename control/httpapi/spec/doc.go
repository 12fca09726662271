// Package spec reads the API's OpenAPI document: which operations there are,
// whom each is for, and what a request may hold. So the document is the one
// source of the checks that stand before a handler.
//
// It refuses, at Parse, whatever it can't check: a keyword, type or format in a
// request's schema that it does not know, an operation without a permission or
// tenancy. At Check it refuses what the schema refuses, names that stand twice,
// and text that is no JSON; it names all faults at once (RFC 6901 pointers), up
// to MaxFaults.
//
// What Parse returns never changes and is safe for concurrent use.
package spec
