package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Results of holds.
const (
	HoldGranted   = "granted"
	HoldDenied    = "denied" // there is not enough, or no limit at all
	HoldFailed    = "failed" // control could not be asked, or gave no answer in time
	HoldRaised    = "raised" // a hold that was made before
	HoldNotRaised = "not_raised"
)

// Kinds of tokens.
const (
	tokensHeld     = "held"
	tokensCharged  = "charged"
	tokensReported = "reported"
)

// Limits of what one record holds of an exchange.
const (
	maxFindings = 32
	maxName     = 64 // bytes of a finding's class or action
)

// Exchange is one exchange that ended, as far as it is counted and recorded.
type Exchange struct {
	Route       string
	Outcome     string // of a closed set
	Class       string // class of what refused or cut it, of a closed set; "" without
	WouldRefuse bool   // observe let pass what Class names

	Held     int64 // tokens
	Charged  int64 // tokens; 0 where the hold was released
	Reported int64 // tokens by the provider's own count; 0 where it gave none

	// FirstEvent is the time from the request's arrival to the first part of the
	// answer that was passed on; 0 where none was.
	FirstEvent time.Duration
	Findings   []Finding // nobody changes them from here on

	// What follows is only in records.

	CheckID string // decision id of the Check before
	Model   string // as the request names it
	Stream  bool   // the answer came as events
	Settled string // what the charge follows from, of a closed set
	Flagged bool   // the provider's count can't be true
}

// Finding is what the sanitizer did, Count times. Both texts are of closed sets.
type Finding struct {
	Class  string
	Action string
	Count  int
}

// exchangeMetrics are those of exchanges.
type exchangeMetrics struct {
	total       *series[outcomeLabels, prometheus.Counter]
	refused     *series[classLabels, prometheus.Counter]
	wouldRefuse *series[classLabels, prometheus.Counter]
	tokens      *series[string, tokenSeries]
	findings    *series[findingLabels, prometheus.Counter]
	holds       *series[string, prometheus.Counter]
	firstEvent  prometheus.Histogram
}

type (
	outcomeLabels struct{ route, outcome string }
	classLabels   struct{ route, class string }
	findingLabels struct{ class, action string }
	tokenSeries   struct{ held, charged, reported prometheus.Counter }
)

func (m *Metrics) registerExchanges() {
	x := &m.exchanges
	total := m.counters("gatehouse_exchanges_total", "Exchanges that ended.", "route", "outcome")
	x.total = newSeries(outcomeLabels{other, other}, func(l outcomeLabels) prometheus.Counter { return with(total, l.route, l.outcome) })
	x.refused = byClass(m.counters("gatehouse_exchange_refusals_total", "Exchanges refused or cut.", "route", "class"))
	x.wouldRefuse = byClass(m.counters("gatehouse_exchange_would_refuse_total", "Exchanges let pass by observe that enforce would refuse.", "route", "class"))
	tokens := m.counters("gatehouse_tokens_total", "Tokens of exchanges that ended.", "route", "kind")
	x.tokens = newSeries(other, func(route string) tokenSeries {
		return tokenSeries{with(tokens, route, tokensHeld), with(tokens, route, tokensCharged), with(tokens, route, tokensReported)}
	})
	findings := m.counters("gatehouse_findings_total", "What the sanitizer found in answers.", "class", "action")
	x.findings = newSeries(findingLabels{other, other}, func(l findingLabels) prometheus.Counter { return with(findings, l.class, l.action) })
	x.holds = m.oneLabel("gatehouse_holds_total", "Holds asked for, and raised.", "result")
	x.firstEvent = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:                            "gatehouse_first_event_seconds",
		Help:                            "Time until the first part of an answer was passed on.",
		Buckets:                         []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  100,
		NativeHistogramMinResetDuration: time.Hour,
	})
	m.registry.MustRegister(x.firstEvent)
}

func byClass(v *prometheus.CounterVec) *series[classLabels, prometheus.Counter] {
	return newSeries(classLabels{other, other}, func(l classLabels) prometheus.Counter { return with(v, l.route, l.class) })
}

// Exchange counts an exchange that ended.
func (m *Metrics) Exchange(x *Exchange) {
	s := &m.exchanges
	s.total.get(outcomeLabels{x.Route, x.Outcome}).Inc()
	switch {
	case x.Class != "" && x.WouldRefuse:
		s.wouldRefuse.get(classLabels{x.Route, x.Class}).Inc()
	case x.Class != "":
		s.refused.get(classLabels{x.Route, x.Class}).Inc()
	}
	s.tokens.get(x.Route).add(x)
	for _, f := range x.Findings {
		s.findings.get(findingLabels{f.Class, f.Action}).Add(float64(max(f.Count, 0)))
	}
	if x.FirstEvent > 0 {
		s.firstEvent.Observe(x.FirstEvent.Seconds())
	}
}

// add counts tokens. A counter never falls, whatever a provider reports.
func (s tokenSeries) add(x *Exchange) {
	s.held.Add(float64(max(x.Held, 0)))
	s.charged.Add(float64(max(x.Charged, 0)))
	s.reported.Add(float64(max(x.Reported, 0)))
}

// Hold counts the answer to a hold, or to raising one; result is one of the
// constants.
func (m *Metrics) Hold(result string) { m.exchanges.holds.get(result).Inc() }

// ShowExchanges exports how many exchanges are open, as now says at each scrape.
// It may be called once.
func (m *Metrics) ShowExchanges(now func() int) {
	m.gaugeFunc("gatehouse_exchanges_open", "Exchanges under way.", func() float64 { return float64(now()) })
}

// Ledger is how the settlements of a sidecar stand, at a moment.
type Ledger struct {
	Waiting    int   // settlements that control has not acknowledged
	SpoolBytes int64 // on disk
	Lost       int64 // settlements that nobody kept; their holds are charged in full
	Refused    int64 // settlements that control would not take
	Alarm      bool  // no holds are asked for, though there is a line
}

// ShowLedger exports what now returns, at each scrape. It may be called once.
func (m *Metrics) ShowLedger(now func() Ledger) {
	m.gaugeFunc("gatehouse_settlements_waiting", "Settlements that control has not acknowledged.", func() float64 { return float64(now().Waiting) })
	m.gaugeFunc("gatehouse_spool_bytes", "Bytes of settlements on disk.", func() float64 { return float64(now().SpoolBytes) })
	m.counterFunc("gatehouse_settlements_lost_total", "Settlements that nobody kept; their holds are charged in full.", func() float64 { return float64(now().Lost) })
	m.counterFunc("gatehouse_settlements_refused_total", "Settlements that control would not take.", func() float64 { return float64(now().Refused) })
	m.gaugeFunc("gatehouse_ledger_alarm", "1 while no holds are asked for because settlements could not be kept.", func() float64 {
		if now().Alarm {
			return 1
		}
		return 0
	})
}

func (m *Metrics) counterFunc(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, value))
}

func (m *Metrics) gaugeFunc(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
}

// appendJSON appends the exchange as a member of its record.
func (x *Exchange) appendJSON(b []byte) []byte {
	b = append(b, `,"exchange":{"outcome":`...)
	b = appendString(b, x.Outcome, maxText)
	b = appendText(b, "check_id", x.CheckID, maxText)
	b = appendText(b, "model", x.Model, maxText)
	b = appendBool(b, "stream", x.Stream)
	b = appendNumber(b, "held", x.Held)
	b = appendNumber(b, "charged", x.Charged)
	b = appendNumber(b, "reported", x.Reported)
	b = appendText(b, "settled", x.Settled, maxText)
	b = appendBool(b, "flagged", x.Flagged)
	b = appendNumber(b, "first_event_us", max(x.FirstEvent.Microseconds(), 0))
	b = appendFindings(b, x.Findings)
	return append(b, '}')
}

func appendFindings(b []byte, findings []Finding) []byte {
	b = append(b, `,"findings":[`...)
	for i, f := range findings[:min(len(findings), maxFindings)] {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"class":`...)
		b = appendString(b, f.Class, maxName)
		b = appendText(b, "action", f.Action, maxName)
		b = appendNumber(b, "count", f.Count)
		b = append(b, '}')
	}
	return append(b, ']')
}
