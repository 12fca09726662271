// Package ledger is the sidecar's end of the ledger of tokens: it asks control for
// holds, and sees to it that each settlement arrives, whatever becomes of the line,
// of control and of this process.
//
//	Reserve, TopUp ──► asks ──────────────┐
//	                                      ├──► Speak ──► control
//	Settle ──► queue ──────────────┬──────┘       answers ──► Hear
//	             │ line down, full │
//	             ▼                 │ read back
//	           spool, a file of this process ──┘   (and of those before it)
//
// A hold is asked for at once or not at all: without a line, or with a spool that
// can't be written, there are none. What became of it being unknown, it is released,
// and nothing may go upstream. A settlement is taken at once and leaves memory only
// when control has decided, or the disk has it.
//
// It refuses to wait for the network where a settlement is said, to hold tokens
// that it might not be able to settle, and to lose anything unseen: what has no room
// anywhere is counted and told, and control charges its hold.
//
// What decides is plain data under one mutex (asks, queue); one goroutine speaks,
// one hears, both the line's, and one keeps the files. A Client is safe for
// concurrent use.
package ledger
