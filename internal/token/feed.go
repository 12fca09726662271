package token

import (
	"bytes"
	"cmp"
	"log/slog"
	"time"
)

// maxFeedName bounds the name of a feed in logs.
const maxFeedName = 64

// Feed is a key source in memory: whoever learns of an issuer's keys in another
// way than from a file or a URL replaces them here. It may be shared by the
// verifiers of all revisions, and lives on its own: no verifier closes it. Its
// methods are safe for concurrent use.
type Feed struct{ s *source }

// NewFeed returns a feed without keys; tokens are Unavailable until it has some.
// name is for logs. log nil discards.
func NewFeed(name string, log *slog.Logger) *Feed {
	return &Feed{&source{
		id:  sourceID{fed: name[:min(len(name), maxFeedName)]},
		log: cmp.Or(log, slog.New(slog.DiscardHandler)),
	}}
}

// Replace publishes a key set document (RFC 7517, 5) of asymmetric keys as a
// whole, as known at now. The same document again only confirms the keys, which
// age like fetched ones (MaxKeyAge). A document that is refused changes nothing.
func (f *Feed) Replace(doc []byte, now time.Time) error {
	f.s.loading.Lock()
	defer f.s.loading.Unlock()
	return f.s.replaceLocked(bytes.Clone(doc), now)
}
