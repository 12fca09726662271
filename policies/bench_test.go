package policies

import (
	"testing"

	"gatehouse/internal/config"
)

func BenchmarkDecideCached(b *testing.B) {
	e, in, ctx := shippedEngine(b), typicalInput(), b.Context()
	e.Decide(ctx, in)
	b.ReportAllocs()
	for b.Loop() {
		if d := e.Decide(ctx, in); !d.Allowed || !d.Cached {
			b.Fatal(d)
		}
	}
}

func BenchmarkDecideUncached(b *testing.B) {
	e, in, ctx := shippedEngine(b), typicalInput(), b.Context()
	e.cache = nil
	b.ReportAllocs()
	for b.Loop() {
		if d := e.Decide(ctx, in); !d.Allowed {
			b.Fatal(d)
		}
	}
}

func BenchmarkDocument(b *testing.B) {
	e, in := shippedEngine(b), typicalInput()
	b.ReportAllocs()
	for b.Loop() {
		e.document(in, nil)
	}
}

func BenchmarkCompile(b *testing.B) {
	src := shippedSource(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(b.Context(), src, Options{Entry: config.ShippedEntry}); err != nil {
			b.Fatal(err)
		}
	}
}
