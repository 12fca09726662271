package memory_test

import (
	"fmt"
	"testing"

	"gatehouse/budget/budgettest"
	"gatehouse/budget/memory"
)

func TestStore(t *testing.T) {
	t.Parallel()
	budgettest.TestStore(t, func(t *testing.T) budgettest.Harness {
		clock, tenants := budgettest.NewClock(), 0
		s := memory.New(clock.Now)
		return budgettest.Harness{
			Store: s, Clock: clock, Steps: 40,
			Sidecars: [2]string{"00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"},
			Tenant: func(testing.TB) string {
				tenants++
				return fmt.Sprint("org", tenants)
			},
			Balanced: func(t testing.TB) {
				if err := s.Balance(); err != nil {
					t.Error(err)
				}
			},
		}
	})
}
