package telemetry

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

func TestControlMetrics(t *testing.T) {
	t.Parallel()
	m := NewControlMetrics("v1")
	m.APIRequest("listUsers", 200, time.Millisecond)
	m.APIRequest("listUsers", 204, time.Millisecond)
	m.APIRequest("", 404, time.Second)
	m.APIRequest("getUser", 0, 0)
	m.DecisionTails(3)
	m.DecisionTails(2)
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, s := range f.GetMetric() {
			if strings.HasPrefix(f.GetName(), "gatehouse_") && f.GetName() != "gatehouse_build_info" {
				got[seriesName(f.GetName(), s)] = value(s)
			}
		}
	}
	want := map[string]float64{
		`gatehouse_api_requests_total{code_class="2xx",operation="listUsers"}`: 2,
		`gatehouse_api_requests_total{code_class="4xx",operation=""}`:          1,
		`gatehouse_api_requests_total{code_class="none",operation="getUser"}`:  1,
		`gatehouse_api_request_duration_seconds{operation="listUsers"}`:        2,
		`gatehouse_api_request_duration_seconds{operation=""}`:                 1,
		`gatehouse_api_request_duration_seconds{operation="getUser"}`:          1,
		`gatehouse_decision_tails{}`:                                           2,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("series (-want +got):\n%s\nof %v", diff, slices.Sorted(maps.Keys(got)))
	}
	if other := NewControlMetrics("v1"); other.Registry() == m.Registry() {
		t.Error("two share a registry")
	}
}
