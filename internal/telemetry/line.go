package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Line is how a sidecar stands with control, at a moment.
type Line struct {
	Connected  bool
	Confirmed  time.Time // when control last said that the live data is the newest; zero for never
	LiveEpoch  int64
	Generation int64 // of the activation in force
}

// ShowLine exports what now returns, at each scrape. It may be called once.
func (m *Metrics) ShowLine(now func() Line) {
	gauge := func(name, help string, value func(Line) float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(now()) }))
	}
	gauge("gatehouse_control_connected", "1 while there is a line to control.", func(l Line) float64 {
		if l.Connected {
			return 1
		}
		return 0
	})
	gauge("gatehouse_control_confirmed_timestamp_seconds", "When control last confirmed the live data; 0 for never.", func(l Line) float64 {
		if l.Confirmed.IsZero() {
			return 0
		}
		return float64(l.Confirmed.UnixMilli()) / 1000
	})
	gauge("gatehouse_live_epoch", "Epoch of the live data in force.", func(l Line) float64 { return float64(l.LiveEpoch) })
	gauge("gatehouse_policy_generation", "Generation of the activation in force.", func(l Line) float64 { return float64(l.Generation) })
}

// RecordsNotSent counts decision records that did not go up to control.
func (m *Metrics) RecordsNotSent(n int) { m.countRecord(ResultNotSent, n) }
