// Package sanitize makes the text of an LLM's answer safe for the place that
// it goes to, and reads the three structures that agents answer with.
//
// A Scanner holds the rules of one context; a Stream applies them to one text
// that arrives in pieces. The context comes from the operator's configuration,
// never from the text: an answer can't talk its way into a milder one.
//
// # How a text is read
//
//		bytes ─► control characters ─► escapes ─► folding ─► words ─► machines ─► window
//
//	  - Control characters, bidi overrides and Unicode tags are replaced where
//	    they stand, so that all that follows reads what will be sent.
//	  - HTML references, percent and JSON escapes are decoded, two rounds deep.
//	    Where that changed something, two machines run side by side, one on the
//	    decoded and one on the raw text, until they agree again: what either of
//	    them sees counts.
//	  - Folding maps letters to lower-case ASCII (NFKC, look-alikes) and drops
//	    characters of no width.
//	  - A DFA over classes of characters finds words, and what stood before them; it
//	    is all that runs on text that holds nothing of interest.
//	  - Small machines read statements, break-outs, commands, paths, tags, URLs and
//	    images, each in constant memory.
//
// # What is sent
//
// Text is held from the oldest opener that may still become a match; what comes
// before is sent at once. A match is made harmless by putting Marker into it
// (defang), replaced (redact), or it ends the text (block). The rewritten
// window is scanned again before it is sent; a match there blocks the text.
//
// INVARIANT: what is sent is the same for every split of the text, and what has
// been sent at any time holds no match of a class that is not off or flagged.
// At most MaxHeld bytes of text are held.
//
// # What it costs
//
// The cost of a text is linear in its length and the same for all that holds
// nothing of interest, programs among it. A text of nothing but openers and
// escapes, which all machines read character by character, costs up to some
// twenty times as much; see TestCost.
//
// # What it refuses
//
// It can't parameterise a statement or encode for a sink that it does not know,
// and decodes no base64. It knows shells and SQL by what an injection looks like:
// a statement or a command that is whole, and its author's own, is none, but for
// those that destroy. URLs in plain text are no links, and of styles only url() is
// read. The package has no transport and no clock. A Scanner
// may be used concurrently; a Stream belongs to one goroutine.
package sanitize
