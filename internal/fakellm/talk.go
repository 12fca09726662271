package fakellm

import (
	"context"
	"iter"
	"math"
	"strings"
	"time"
	"unicode"
)

// event is one step of an answer.
type event struct {
	kind   eventKind
	index  int   // of the block: opened, worded, closed
	block  block // likewise; ended: the last
	choice int   // opened, worded
	text   string
	words  int    // that this step generates
	usage  *usage // started, noted, ended; nil: not reported
	full   bool   // ended: the output limit did it
}

type eventKind uint8

const (
	started eventKind = iota
	opened            // a block, once per choice
	worded            // a piece of it; no text: hidden reasoning
	closed            // it, in all choices
	noted             // usage, on the way
	failed            // the provider's error; the last event
	snapped           // the connection breaks; the last event
	ended             // the last event
)

// usage is what the provider reports, in tokens.
type usage struct {
	prompt, completion  int // all of it
	reasoning           int // part of completion
	cacheRead, cacheNew int // part of prompt
}

// talk gives an answer step by step, at its pace. It stops without a last event
// when ctx ends.
func (s *script) talk(ctx context.Context, c *call) iter.Seq[event] {
	return func(yield func(event) bool) {
		t := talk{c: c, s: s, limit: c.limit, ready: pacer(ctx, s.pace)}
		if s.runaway {
			t.limit = math.MaxInt
		}
		t.emit = func(e event) bool { return ctx.Err() == nil && yield(e) }
		t.run()
	}
}

// pacer waits for the time of the next word. It returns false when ctx ends.
func pacer(ctx context.Context, pace time.Duration) func() bool {
	if pace == 0 {
		return func() bool { return ctx.Err() == nil }
	}
	next := time.Now()
	return func() bool {
		next = next.Add(pace)
		timer := time.NewTimer(time.Until(next))
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		}
	}
}

// talk is an answer under way. It belongs to one goroutine.
type talk struct {
	c     *call
	s     *script
	limit int              // words per choice
	ready func() bool      // waits for the next word
	emit  func(event) bool // false: stop
	spent int              // words per choice
	mused int              // those of reasoning
	full  bool             // the limit cut something off
}

func (t *talk) run() {
	if !t.emit(event{kind: started, usage: t.report(1)}) {
		return
	}
	var last block
	for i, b := range t.s.blocks {
		last = b
		if !t.say(i, b) {
			return
		}
		if t.full {
			break
		}
	}
	t.emit(event{kind: ended, block: last, usage: t.report(t.spent * t.c.choices), full: t.full})
}

// say speaks one block. It returns false if the talk is over.
func (t *talk) say(i int, b block) bool {
	name := 0
	if b.kind == toolCall {
		name = 1 // a tool's name is a word
	}
	if t.full = t.spent+name > t.limit; t.full {
		return true
	}
	if !t.step(event{kind: opened, index: i, block: b, words: name}) {
		return false
	}
	if !t.hide(i, b) || !t.speak(i, b) {
		return false
	}
	return t.emit(event{kind: closed, index: i, block: b})
}

func (t *talk) hide(i int, b block) bool {
	for range b.hidden {
		if t.full = t.spent == t.limit; t.full {
			return true
		}
		if !t.step(event{kind: worded, index: i, block: b, words: 1}) {
			return false
		}
	}
	return true
}

func (t *talk) speak(i int, b block) bool {
	var c counter
	for _, piece := range b.pieces {
		text, n := c.head(piece, t.limit-t.spent)
		t.full = text != piece
		if t.full {
			text = strings.TrimRightFunc(text, unicode.IsSpace)
		}
		if text != "" && !t.step(event{kind: worded, index: i, block: b, text: text, words: n}) {
			return false
		}
		if t.full {
			return true
		}
	}
	return true
}

// step takes one step in every choice.
func (t *talk) step(e event) bool {
	for e.choice = range t.c.choices {
		if e.words > 0 && !t.ready() || !t.emit(e) {
			return false
		}
	}
	t.spent += e.words
	if e.block.kind == thought || e.block.kind == concealed {
		t.mused += e.words
	}
	return e.words == 0 || t.turn()
}

// turn is what happens after so and so many words.
func (t *talk) turn() bool {
	switch {
	case t.spent == t.s.cut:
		t.emit(event{kind: snapped})
		return false
	case t.spent == t.s.late:
		t.emit(event{kind: failed})
		return false
	case t.s.every > 0 && t.spent%t.s.every == 0:
		return t.emit(event{kind: noted, usage: t.report(t.spent * t.c.choices)})
	}
	return true
}

// report is what the model says of its usage.
func (t *talk) report(completion int) *usage {
	u := &usage{prompt: t.c.prompt, completion: completion, reasoning: t.mused * t.c.choices}
	switch t.s.usage {
	case silent:
		return nil
	case low:
		u.completion = 1
	case cached:
		u.cacheRead, u.cacheNew = u.prompt/4, u.prompt/4
	}
	return u
}
