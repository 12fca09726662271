package telemetry

import (
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// ControlMetrics are the control service's metrics. Make it with
// NewControlMetrics.
type ControlMetrics struct {
	registry *prometheus.Registry

	requests *series[apiLabels, prometheus.Counter]
	seconds  *series[string, prometheus.Observer]
	tails    prometheus.Gauge
}

type apiLabels struct{ operation, class string }

// NewControlMetrics makes the metrics and a registry of their own, with those
// of the Go runtime and the process beside them. version is the build's.
func NewControlMetrics(version string) *ControlMetrics {
	m := &ControlMetrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registerAPI()
	build := m.gauges("gatehouse_build_info", "The build, always 1.", "version", "go_version")
	build.WithLabelValues(strings.ToValidUTF8(version, "\ufffd"), runtime.Version()).Set(1)
	return m
}

// Registry returns the registry, for the debug listener.
func (m *ControlMetrics) Registry() *prometheus.Registry { return m.registry }

func (m *ControlMetrics) registerAPI() {
	requests := m.counters("gatehouse_api_requests_total", "Requests of the API that were answered.", "operation", "code_class")
	seconds := m.histograms("gatehouse_api_request_duration_seconds", "Time that a request of the API took.", "operation")
	m.requests = newSeries(apiLabels{other, other}, func(l apiLabels) prometheus.Counter { return with(requests, l.operation, l.class) })
	m.seconds = newSeries(other, func(operation string) prometheus.Observer { return seconds.WithLabelValues(operation) })
	m.tails = m.gauges("gatehouse_decision_tails", "Tails of decision records that are open.").WithLabelValues()
}

func (m *ControlMetrics) counters(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *ControlMetrics) histograms(name, help string, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15},
	}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *ControlMetrics) gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

// APIRequest counts a request of the API. operation is one of its document, or
// "" where the request matched none; status is what was sent.
func (m *ControlMetrics) APIRequest(operation string, status int, took time.Duration) {
	m.requests.get(apiLabels{operation, codeClass(status)}).Inc()
	m.seconds.get(operation).Observe(took.Seconds())
}

// DecisionTails tells how many tails of decision records are open.
func (m *ControlMetrics) DecisionTails(open int) { m.tails.Set(float64(open)) }
