package telemetry

import "github.com/prometheus/client_golang/prometheus"

// Mesh is how a replica of control stands with its sidecars, its database and
// its Redis, at a moment.
type Mesh struct {
	Connected int  // sidecars with a stream to this replica
	Fresh     bool // the database was asked within the last seconds: beats go out
	Conns     int  // of the database that are in use
	MaxConns  int
}

// ShowMesh exports what now returns, at each scrape. It may be called once.
func (m *ControlMetrics) ShowMesh(now func() Mesh) {
	gauge := func(name, help string, value func(Mesh) float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(now()) }))
	}
	gauge("gatehouse_mesh_sidecars_connected", "Sidecars with a stream to this replica.", func(s Mesh) float64 { return float64(s.Connected) })
	gauge("gatehouse_mesh_fresh", "1 while this replica can vouch for live data.", func(s Mesh) float64 {
		if s.Fresh {
			return 1
		}
		return 0
	})
	gauge("gatehouse_database_connections", "Connections of the database in use.", func(s Mesh) float64 { return float64(s.Conns) })
	gauge("gatehouse_database_connections_max", "Connections of the database at most.", func(s Mesh) float64 { return float64(s.MaxConns) })
}
