package telemetry

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// keySetAges is a collector of the age of each issuer's keys. A gauge set at
// each fetch would stand still just when fetching fails.
type keySetAges struct {
	desc *prometheus.Desc

	mu      sync.Mutex
	fetched map[string]time.Time // guarded by mu; at most maxSeries issuers
}

func newKeySetAges() *keySetAges {
	return &keySetAges{
		desc:    prometheus.NewDesc("gatehouse_key_set_age_seconds", "Time since an issuer's keys were last fetched.", []string{"issuer"}, nil),
		fetched: make(map[string]time.Time),
	}
}

func (k *keySetAges) set(issuer string, fetched time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	issuer = strings.ToValidUTF8(issuer, "\ufffd")
	if _, known := k.fetched[issuer]; known || len(k.fetched) < maxSeries {
		k.fetched[issuer] = fetched
	}
}

func (k *keySetAges) forget(issuer string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.fetched, strings.ToValidUTF8(issuer, "\ufffd"))
}

// Describe implements prometheus.Collector.
func (k *keySetAges) Describe(ch chan<- *prometheus.Desc) { ch <- k.desc }

// Collect implements prometheus.Collector.
func (k *keySetAges) Collect(ch chan<- prometheus.Metric) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for issuer, fetched := range k.fetched {
		age := max(time.Since(fetched), 0)
		ch <- prometheus.MustNewConstMetric(k.desc, prometheus.GaugeValue, age.Seconds(), issuer)
	}
}
