package sanitize

// Steps up from which a path is no longer one of a project's own. Programs have
// less reason to name them than people who write about programs.
const (
	maxClimb       = 4
	maxClimbStrict = 3
)

// climb reads a path that leads up.
type climb struct {
	steps uint8 // in a row
	named bool  // a name has begun
}

// parent handles the slash of ../, or of what looks like it.
func (m *machine) parent(x *env, st wordState, at int) {
	if !x.acts(PathTraversal) {
		return
	}
	if m.live&livePath == 0 {
		m.climb = climb{}
	}
	m.live |= livePath
	m.climb.steps++
	most := uint8(maxClimb)
	if x.strict() {
		most = maxClimbStrict
	}
	switch {
	case st == stDotsCode || x.coded:
		m.climbs(x, ruleEncoded, at) // nobody encodes what may be seen
	case m.climb.steps >= most:
		m.climbs(x, rulePath, at)
	}
}

func (m *machine) climbs(x *env, rule string, at int) {
	x.hit(PathTraversal, rule, at, at)
	m.noClimb()
}

func (m *machine) noClimb() {
	m.climb = climb{}
	m.live &^= livePath
}

// wordClimb reads a name. Up two folders and down into the system's is no path of
// a project.
func (m *machine) wordClimb(x *env, kind wordKind) {
	if m.climb.named && kind == wordSystem && m.climb.steps > 1 {
		m.climbs(x, ruleTarget, m.wordAt)
		return
	}
	m.noClimb()
}

// stepClimb reads a character that is not within a word; begins says that it
// begins one.
func (m *machine) stepClimb(sym symbol, begins bool) {
	switch {
	case begins && !m.climb.named:
		m.climb.named = true
	case sym != symDot && sym != symSlash && sym != symBack:
		m.noClimb()
	}
}
