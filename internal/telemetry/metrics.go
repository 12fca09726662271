package telemetry

import (
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Label values of decision.
const (
	allow = "allow"
	deny  = "deny"
)

// Results of loads, records and access log entries.
const (
	ResultOK         = "ok"
	ResultFailed     = "failed"
	ResultWritten    = "written"
	ResultDropped    = "dropped"
	ResultSuppressed = "suppressed"
	ResultNotSent    = "not_sent"
	ResultMalformed  = "malformed"
	ResultIgnored    = "ignored"
)

// Check is one answered Check, as far as it is counted.
type Check struct {
	Route     string
	Class     string // class of the refusal, of a closed set; "" when there was none
	Mode      string // enforce or observe
	Allowed   bool
	WouldDeny bool // observe let pass what enforce would refuse
}

// Request is one finished request, as far as it is counted.
type Request struct {
	Route           string
	Status          int    // HTTP status, 0 when none was sent
	Flags           string // Envoy's short names, joined by commas
	UpstreamReached bool
}

// Metrics are the sidecar's metrics. Methods with labels cost one map read
// once a label set is known. Make it with NewMetrics.
type Metrics struct {
	registry *prometheus.Registry

	checks       *series[checkLabels, checkSeries]
	checkSeconds prometheus.Histogram
	tokens       *series[string, prometheus.Counter]
	policies     *series[policyLabels, prometheus.Counter]
	rateLimited  *series[string, prometheus.Counter]
	meshLimited  *series[meshLabels, prometheus.Counter]
	requests     *series[requestLabels, prometheus.Counter]
	reached      *series[string, prometheus.Counter]
	unrouted     prometheus.Counter
	records      *series[string, prometheus.Counter]
	entries      *series[string, prometheus.Counter]
	loads        *series[string, prometheus.Counter]
	nacks        *series[string, prometheus.Counter]
	revisions    *prometheus.GaugeVec
	stale        prometheus.Gauge
	retired      prometheus.Gauge
	keySets      *keySetAges
	exchanges    exchangeMetrics
}

type checkLabels struct {
	route, decision, class, mode string
	wouldDeny                    bool
}

type checkSeries struct {
	total     prometheus.Counter
	wouldDeny prometheus.Counter // nil unless the label set would deny
}

type policyLabels struct {
	result string
	cached bool
}

type meshLabels struct {
	source  string
	allowed bool
}

type requestLabels struct {
	route, class, flags string
}

// NewMetrics makes the metrics and a registry of their own, with those of the
// Go runtime and the process beside them. version is the build's.
func NewMetrics(version string) *Metrics {
	reg := prometheus.NewRegistry()
	m := &Metrics{registry: reg, keySets: newKeySetAges()}
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), m.keySets)
	m.registerChecks()
	m.registerRequests()
	m.registerExchanges()
	m.registerConfiguration(version)
	return m
}

// Registry returns the registry, for the debug listener.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

func (m *Metrics) registerChecks() {
	checks := m.counters("gatehouse_checks_total", "Checks answered.", "route", "decision", "class", "mode")
	would := m.counters("gatehouse_check_would_deny_total", "Checks let pass by observe that enforce would deny.", "route", "class")
	m.checks = newSeries(checkLabels{other, other, other, other, false}, func(l checkLabels) checkSeries {
		s := checkSeries{total: with(checks, l.route, l.decision, l.class, l.mode)}
		if l.wouldDeny {
			s.wouldDeny = with(would, l.route, l.class)
		}
		return s
	})
	m.checkSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:                            "gatehouse_check_duration_seconds",
		Help:                            "Time that a Check took in the sidecar.",
		Buckets:                         []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .5},
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  100,
		NativeHistogramMinResetDuration: time.Hour,
	})
	m.registry.MustRegister(m.checkSeconds)
	m.tokens = m.oneLabel("gatehouse_token_verifications_total", "Tokens verified.", "result")
	m.rateLimited = m.oneLabel("gatehouse_rate_limited_total", "Requests refused by a rate limit.", "rule")
	mesh := m.counters("gatehouse_mesh_limit_decisions_total", "Decisions by rate limits of the mesh.", "source", "decision")
	m.meshLimited = newSeries(meshLabels{source: other}, func(l meshLabels) prometheus.Counter {
		decision := deny
		if l.allowed {
			decision = allow
		}
		return with(mesh, l.source, decision)
	})
	policies := m.counters("gatehouse_policy_decisions_total", "Policy decisions.", "result", "cached")
	m.policies = newSeries(policyLabels{result: other}, func(l policyLabels) prometheus.Counter {
		return with(policies, l.result, strconv.FormatBool(l.cached))
	})
}

func (m *Metrics) registerRequests() {
	requests := m.counters("gatehouse_requests_total", "Requests that Envoy finished.", "route", "code_class", "flags")
	m.requests = newSeries(requestLabels{other, other, other}, func(l requestLabels) prometheus.Counter {
		return with(requests, l.route, l.class, l.flags)
	})
	m.reached = m.oneLabel("gatehouse_upstream_reached_total", "Requests of which bytes went to the upstream.", "route")
	m.unrouted = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "gatehouse_unrouted_total", Help: "Requests that no route matched.",
	})
	m.registry.MustRegister(m.unrouted)
	m.records = m.oneLabel("gatehouse_decision_records_total", "Decision records, by what became of them.", "result")
	m.entries = m.oneLabel("gatehouse_access_log_entries_total", "Access log entries received.", "result")
}

func (m *Metrics) registerConfiguration(version string) {
	m.loads = m.oneLabel("gatehouse_revision_loads_total", "Attempts to load a revision.", "result")
	m.nacks = m.oneLabel("gatehouse_nacks_total", "Resources that Envoy rejected.", "type")
	m.revisions = m.gauges("gatehouse_revision_info", "Loaded revisions, always 1.", "revision")
	m.stale = m.gauges("gatehouse_config_stale", "1 while the last load of a configuration failed.").WithLabelValues()
	m.retired = m.gauges("gatehouse_retired_clusters", "Clusters no longer referenced, but still served.").WithLabelValues()
	m.gauges("gatehouse_build_info", "The build, always 1.", "version", "go_version").WithLabelValues(strings.ToValidUTF8(version, "\ufffd"), runtime.Version()).Set(1)
}

func (m *Metrics) counters(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) oneLabel(name, help, label string) *series[string, prometheus.Counter] {
	v := m.counters(name, help, label)
	return newSeries(other, func(value string) prometheus.Counter { return with(v, value) })
}

// with resolves a counter. Invalid UTF-8, on which the library panics, is
// replaced: a label may come from another process.
func with(v *prometheus.CounterVec, values ...string) prometheus.Counter {
	for i := range values {
		values[i] = strings.ToValidUTF8(values[i], "\ufffd")
	}
	return v.WithLabelValues(values...)
}

// Check counts an answered Check and the time that it took.
func (m *Metrics) Check(c Check, took time.Duration) {
	s := m.checks.get(checkLabels{c.Route, decisionLabel(c.Allowed), c.Class, c.Mode, c.WouldDeny})
	s.total.Inc()
	if s.wouldDeny != nil {
		s.wouldDeny.Inc()
	}
	m.checkSeconds.Observe(took.Seconds())
}

// TokenVerified counts a verification; result is of a closed set.
func (m *Metrics) TokenVerified(result string) { m.tokens.get(result).Inc() }

// PolicyDecided counts a policy decision; result is of a closed set.
func (m *Metrics) PolicyDecided(result string, cached bool) {
	m.policies.get(policyLabels{result, cached}).Inc()
}

// RateLimited counts a request refused by the limit named rule.
func (m *Metrics) RateLimited(rule string) { m.rateLimited.get(rule).Inc() }

// MeshLimited counts decisions by limits of the mesh, by who made them.
func (m *Metrics) MeshLimited(source string, allowed bool) {
	m.meshLimited.get(meshLabels{source, allowed}).Inc()
}

// Request counts a finished request.
func (m *Metrics) Request(r Request) {
	m.requests.get(requestLabels{r.Route, codeClass(r.Status), r.Flags}).Inc()
	if r.UpstreamReached {
		m.reached.get(r.Route).Inc()
	}
}

// Unrouted counts a request that no route matched.
func (m *Metrics) Unrouted() { m.unrouted.Inc() }

// AccessLogEntry counts an entry: ResultOK, ResultMalformed or ResultIgnored.
func (m *Metrics) AccessLogEntry(result string) { m.entries.get(result).Inc() }

// RevisionLoaded counts an attempt to load a revision and says whether the
// configuration is stale: it is from a failed load to the next good one.
func (m *Metrics) RevisionLoaded(err error) {
	if err != nil {
		m.loads.get(ResultFailed).Inc()
		m.stale.Set(1)
		return
	}
	m.loads.get(ResultOK).Inc()
	m.stale.Set(0)
}

// Revisions names the revisions that are loaded now; others are forgotten.
func (m *Metrics) Revisions(ids ...string) {
	m.revisions.Reset()
	for _, id := range ids {
		m.revisions.WithLabelValues(strings.ToValidUTF8(id, "\ufffd")).Set(1)
	}
}

// Nack counts a rejected resource by the short name of its type.
func (m *Metrics) Nack(resourceType string) { m.nacks.get(resourceType).Inc() }

// RetiredClusters says how many clusters wait for their end.
func (m *Metrics) RetiredClusters(n int) { m.retired.Set(float64(n)) }

// KeySet says when the keys of issuer were last fetched. Their age is computed
// at each scrape.
func (m *Metrics) KeySet(issuer string, fetched time.Time) { m.keySets.set(issuer, fetched) }

// ForgetKeySet drops an issuer that is no longer configured.
func (m *Metrics) ForgetKeySet(issuer string) { m.keySets.forget(issuer) }

// countRecord counts one decision record.
func (m *Metrics) countRecord(result string, n int) { m.records.get(result).Add(float64(n)) }

func decisionLabel(allowed bool) string {
	if allowed {
		return allow
	}
	return deny
}

// codeClass is the class of an HTTP status: 1xx to 5xx, "none" without one.
func codeClass(status int) string {
	classes := [...]string{"1xx", "2xx", "3xx", "4xx", "5xx"}
	switch {
	case status == 0:
		return "none"
	case status < 100 || status > 599:
		return other
	}
	return classes[status/100-1]
}
