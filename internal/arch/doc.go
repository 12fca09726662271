// Package arch holds the rules of this repository as tests: who may import
// whom, what a binary may link, how source is laid out, and that the documents
// say what the code says.
//
// It is test-only and has no code to import. A rule is a row with its reason;
// to change the architecture is to change a row. Each row names an import that
// would break it, and a test shows that it does, so that no rule is only for
// show. An exception that is no longer needed fails too.
package arch
